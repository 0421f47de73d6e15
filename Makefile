# Everything runs in a virtual environment of its own; PYTHON names the interpreter that makes it (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
CLIENTS ?= .clients
# Where the benchmark keeps its results and the gateways that Floway is measured against; BENCH_OPTIONS: see docs/performance.md.
BENCH ?= .bench
CODEX_CLI_VERSIONS = 0.142.0 0.169.0

# The first line of output, so that nobody has to wonder at the silence of what comes first.
SETS_UP = $(if $(wildcard $(VENV)/ready),, First it sets up $(VENV), which takes a minute or two.)
SAYS_demo = A demo of the main job against a simulated backend: no account is needed, and it takes about 10 seconds.$(SETS_UP)
SAYS_test = Lint and all tests but the long ones, on all processors: at most 5 minutes on two of them.$(SETS_UP)
SAYS_test-soak = The long tests, which `make test` leaves out: a few minutes.$(SETS_UP)
$(foreach goal,$(or $(MAKECMDGOALS),demo),$(if $(SAYS_$(goal)),$(info $(SAYS_$(goal)))))

# A worker gets a run of neighbouring tests, which share fixtures, and takes over what another has not come to.
PYTEST_ALL = $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal -o faulthandler_exit_on_timeout=true \
	tests plugins --ignore tests/e2e

.PHONY: demo test test-soak fuzz test-clients test-packages test-deployment bench bench-peers bench-load lint clean

demo: $(VENV)/ready
	$(VENV)/bin/floway codex demo

test: $(VENV)/ready lint
	$(PYTEST_ALL) -m 'not soak'

test-soak: $(VENV)/ready
	$(PYTEST_ALL) -m soak

# Tens of thousands of made-up requests, other ones each time; the suite sends a fixed few of them.
FUZZ ?= 60
fuzz: $(VENV)/ready
	FLOWAY_TEST_FUZZ=$(FUZZ) $(VENV)/bin/python -m pytest tests/fuzz

# The real Codex CLI, from npm, through the gateway to the simulated backend.
test-clients: $(VENV)/ready $(CODEX_CLI_VERSIONS:%=$(CLIENTS)/%/ready)
	FLOWAY_TEST_CODEX_CLIS=$(abspath $(CLIENTS)) $(VENV)/bin/python -m pytest tests/e2e/test_codex_cli.py

# The wheels, built and installed into empty environments; and the plugins of docs/plugins.md, as a stranger would.
test-packages: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/e2e/test_packages.py tests/e2e/test_third_party.py

# The files and commands of docs/deployment.md; without nginx, sqlite3 or a PostgreSQL what needs them is skipped.
test-deployment: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/e2e/test_deployment.py

# What a request, an event and a turn cost; the same beside nginx and LiteLLM; many streams for minutes, and too many.
bench: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks run --output $(BENCH)/result.json $(BENCH_OPTIONS)

bench-peers: $(VENV)/ready $(BENCH)/litellm/ready
	$(VENV)/bin/python -m benchmarks run --output $(BENCH)/result.json \
		--with nginx litellm --litellm-python $(BENCH)/litellm/bin/python $(BENCH_OPTIONS)

bench-load: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks load $(BENCH_OPTIONS)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/ready: setup.cfg plugins/codex/setup.cfg plugins/echo/setup.cfg plugins/openai/setup.cfg
	$(PYTHON) -c 'import sys; sys.exit("Floway needs Python 3.11 or newer: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' -e plugins/codex -e plugins/echo -e plugins/openai
	touch $@

$(BENCH)/litellm/ready:
	$(PYTHON) -m venv $(BENCH)/litellm
	$(BENCH)/litellm/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]'
	touch $@

$(CLIENTS)/%/ready:
	npm install --silent --no-fund --no-audit --prefix $(CLIENTS)/$* @openai/codex@$*
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) $(BENCH) build dist *.egg-info plugins/*/*.egg-info plugins/*/build
