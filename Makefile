# Everything runs in a virtual environment of its own; PYTHON names the interpreter that makes it (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
CLIENTS ?= .clients
# The generator of the documentation site, in an environment of its own, and the site.
DOCS ?= .docs
# Where the benchmark keeps its results and the gateways that Floway is measured against; BENCH_OPTIONS: see docs/performance.md.
BENCH ?= .bench
# The time limit of a comparison, in seconds.
BENCH_SECONDS ?= 7200
# The tools that lock and audit dependencies, and the environments with the oldest and newest supported libraries.
LOCK ?= .lock
VERSIONS ?= .versions
VERSIONED = gunicorn flask urllib3 peewee websockets
# Each plugin is a project of its own, plugins/NAME with the package floway_NAME.
PLUGINS := $(patsubst plugins/%/setup.cfg,%,$(wildcard plugins/*/setup.cfg))
CODEX_CLI_VERSIONS = 0.142.0 0.171.0
CLAUDE_CODE_VERSION = 2.1.332
GEMINI_CLI_VERSION = 0.61.0
OPENCODE_VERSION = 1.18.33
CHAT_CLIENTS = llm aider-chat node

# The first line of output, so that nobody has to wonder at the silence of what comes first.
SETS_UP = $(if $(wildcard $(VENV)/ready),, First it sets up $(VENV), which takes a minute or two.)
SAYS_demo = A demo of the main job against a simulated backend: no account is needed, and it takes about 10 seconds.$(SETS_UP)
SAYS_test = Lint and all tests but the long ones, on all processors: 3 to 5 minutes on two of them.$(SETS_UP)
SAYS_test-soak = The long tests, which `make test` leaves out: a few minutes.$(SETS_UP)
$(foreach goal,$(or $(MAKECMDGOALS),demo),$(if $(SAYS_$(goal)),$(info $(SAYS_$(goal)))))

# Compiled modules are kept, whatever the environment says: compiling 300 files of tests takes 10 seconds of each process,
# and Floway half a second of each that a test starts.
test test-soak: export PYTHONDONTWRITEBYTECODE :=

# Each process runs neighbouring tests, which share fixtures, and takes over tests that another has not started.
PYTEST_ALL = $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal -o faulthandler_exit_on_timeout=true \
	tests plugins --ignore tests/e2e

.PHONY: demo test test-soak fuzz test-clients test-packages test-deployment test-dashboard bench bench-peers bench-load bench-soak lock audit sbom test-versions lint types docs \
	record-demo record-dashboard dist version clean

demo: $(VENV)/ready
	$(VENV)/bin/floway codex demo

test: $(VENV)/ready lint
	$(PYTEST_ALL) -m 'not soak'

test-soak: $(VENV)/ready
	$(PYTEST_ALL) -m soak

# Tens of thousands of made-up requests, other ones each time; the suite sends a fixed few of them.
FUZZ ?= 60
fuzz: $(VENV)/ready
	FLOWAY_TEST_FUZZ=$(FUZZ) $(VENV)/bin/python -m pytest tests/fuzz $(wildcard plugins/*/tests/test_*fuzz.py)

# The real clients, from npm and PyPI, through the gateway to simulated and scripted upstreams.
# Those of a version that is named above are installed again when this file changes.
MESSAGES_CLIENTS = $(addprefix plugins/anthropic/tests/test_,claude_code.py claude_code_passed_on.py chat_upstream.py \
	frameworks.py frameworks_elsewhere.py)
GEMINI_CLIENTS = $(addprefix plugins/gemini/tests/test_,gemini_cli.py gemini_cli_passed_on.py sdk.py frameworks.py)
test-clients: $(VENV)/ready $(CODEX_CLI_VERSIONS:%=$(CLIENTS)/%/ready) $(CHAT_CLIENTS:%=$(CLIENTS)/chat/%/ready) \
		$(addprefix $(CLIENTS)/,claude/done ai-sdk/done langchain/done gemini/done litellm/done agents/done \
		opencode/done)
	FLOWAY_TEST_CODEX_CLIS=$(abspath $(CLIENTS)) FLOWAY_TEST_CHAT_CLIENTS=$(abspath $(CLIENTS)/chat) \
		$(VENV)/bin/python -m pytest tests/e2e/test_codex_cli.py tests/e2e/test_openai_node.py plugins/chat/tests/test_clients.py \
		plugins/chat/tests/test_openai_client.py plugins/chat/tests/test_responses_clients.py
	FLOWAY_TEST_CLAUDE_CODE=$(abspath $(CLIENTS))/claude/node_modules/.bin/claude \
		FLOWAY_TEST_AI_SDK=$(abspath $(CLIENTS))/ai-sdk FLOWAY_TEST_LANGCHAIN=$(abspath $(CLIENTS))/langchain/bin/python \
		$(VENV)/bin/python -m pytest $(MESSAGES_CLIENTS)
	FLOWAY_TEST_GEMINI_CLI=$(abspath $(CLIENTS))/gemini/node_modules/.bin/gemini \
		FLOWAY_TEST_LITELLM=$(abspath $(CLIENTS))/litellm/bin/python $(VENV)/bin/python -m pytest $(GEMINI_CLIENTS)
	FLOWAY_TEST_AGENTS_SDK=$(abspath $(CLIENTS))/agents/bin/python $(VENV)/bin/python -m pytest tests/e2e/test_agents_sdk.py
	FLOWAY_TEST_CLIENT_SETUPS=$(abspath $(CLIENTS)) $(VENV)/bin/python -m pytest tests/e2e/test_client_setup.py

# The wheels, built and installed into empty environments; and the plugins of docs/plugins.md, as a stranger would.
test-packages: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/e2e/test_packages.py tests/e2e/test_third_party.py

# The files and commands of docs/deployment.md; without nginx, sqlite3 or a PostgreSQL what needs them is skipped.
test-deployment: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/e2e/test_deployment.py tests/e2e/test_confinement.py

# The dashboard in a real browser, Debian's Chromium; without it this is skipped. The screenshots are in .shots.
BROWSER ?= $(shell command -v chromium)
test-dashboard: $(VENV)/ready $(CLIENTS)/axe/done
	FLOWAY_TEST_BROWSER=$(BROWSER) FLOWAY_TEST_AXE=$(abspath $(CLIENTS))/axe/node_modules/axe-core/axe.min.js \
		FLOWAY_TEST_SHOTS=$(abspath .shots) $(VENV)/bin/python -m pytest plugins/dashboard/tests/browser

# The picture of the dashboard in the README, as its tests have taken it.
record-dashboard: test-dashboard
	cp .shots/dashboard.png docs/dashboard.png

# What a request, an event and a turn cost; the same beside nginx and LiteLLM; many streams for minutes, and too many.
bench: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks run --output $(BENCH)/result.json $(BENCH_OPTIONS)

bench-peers: $(VENV)/ready $(BENCH)/litellm/ready $(BENCH)/python/ready $(BENCH)/node_modules/ready
	timeout --signal=INT $(BENCH_SECONDS) $(VENV)/bin/python -m benchmarks run --output $(BENCH)/result.json \
		--installed $(BENCH) --with codex nginx litellm smg agentic-api portkey $(BENCH_OPTIONS)

bench-load: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks load $(BENCH_OPTIONS)

# A mixed load for MINUTES, after which the gateway may hold no more than after the first ones.
MINUTES ?= 30
bench-soak: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks soak --minutes $(MINUTES) $(BENCH_OPTIONS)

# The exact versions and hashes of all dependencies, for docs/deployment.md.
lock: $(LOCK)/ready
	CUSTOM_COMPILE_COMMAND="make lock" $(LOCK)/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras \
		--allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--extra postgresql --output-file requirements.lock setup.cfg

# Known vulnerabilities of the locked versions. The exit status is 2 if the database could not be asked.
audit: $(LOCK)/ready
	$(LOCK)/bin/python tools/audit.py requirements.lock

# What an installation consists of, as a software bill of materials (CycloneDX), in dist/.
sbom: $(LOCK)/ready
	mkdir -p dist
	$(LOCK)/bin/cyclonedx-py requirements --index-url '' --output-reproducible \
		--output-format JSON --output-file dist/sbom.json requirements.lock
	@echo "The bill of materials is dist/sbom.json."

# The tests of the server with the oldest and the newest versions that setup.cfg allows of what it builds upon.
test-versions: $(VERSIONS)/oldest/ready $(VERSIONS)/newest/ready
	for set in oldest newest; do \
		$(VERSIONS)/$$set/bin/python -m pip list | grep -iE '^(gunicorn|flask|urllib3|peewee|websockets) '; \
		$(VERSIONS)/$$set/bin/python -m pytest --numprocesses auto tests/server tests/faults/test_stopping.py \
			tests/faults/test_reload.py tests/faults/test_slow_clients.py tests/faults/test_databases.py \
			tests/fuzz/test_framing.py tests/upstream tests/storage || exit 1; \
	done

lint: $(VENV)/ready types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/ready
	$(VENV)/bin/mypy floway_core $(foreach plugin,$(PLUGINS),plugins/$(plugin)/floway_$(plugin))

# The documentation as a site, in $(DOCS)/site; a link that leads nowhere is an error.
docs: $(DOCS)/ready
	$(DOCS)/bin/sphinx-build --quiet --fresh-env --nitpicky --fail-on-warning --conf-dir docs . $(DOCS)/site
	cp $(DOCS)/site/README.html $(DOCS)/site/index.html
	@echo "The site is in $(DOCS)/site: open index.html."

# The picture in the README, drawn from a real run.
record-demo: $(VENV)/ready $(DOCS)/ready
	$(DOCS)/bin/python docs/record_demo.py docs/demo.svg

# Sets the version of core and plugins: make version VERSION=0.2.0
version:
	@[ -n "$(VERSION)" ] || { echo "Say which: make version VERSION=0.2.0"; exit 1; }
	sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' floway_core/__init__.py plugins/*/floway_*/__init__.py

# The release: a wheel and an sdist of core and of each plugin, in dist/, built and checked.
dist: $(VENV)/ready
	rm -rf dist build plugins/*/build
	for project in . $(PLUGINS:%=plugins/%); do $(VENV)/bin/python -m build --quiet --outdir dist $$project || exit 1; done
	$(VENV)/bin/twine check --strict dist/*

$(VENV)/ready: setup.cfg $(PLUGINS:%=plugins/%/setup.cfg)
	$(PYTHON) -c 'import sys; sys.exit("Floway needs Python 3.11 or newer: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' $(PLUGINS:%=-e plugins/%)
	touch $@

$(LOCK)/ready:
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools >= 7.5' 'pip-audit >= 2.10' 'cyclonedx-bom >= 7'
	touch $@

$(VERSIONS)/oldest/ready: setup.cfg
	$(PYTHON) -m venv $(VERSIONS)/oldest
	$(VERSIONS)/oldest/bin/python -m pip install --quiet --disable-pip-version-check packaging
	$(VERSIONS)/oldest/bin/python tools/oldest.py $(VERSIONED) > $(VERSIONS)/oldest/requirements.txt
	$(VERSIONS)/oldest/bin/python -m pip install --quiet --disable-pip-version-check \
		-r $(VERSIONS)/oldest/requirements.txt -e '.[test]' $(PLUGINS:%=-e plugins/%)
	touch $@

# gunicorn's newest release may demand a parser in C that an index does not have yet. It works with the one before.
$(VERSIONS)/newest/ready: setup.cfg
	$(PYTHON) -m venv $(VERSIONS)/newest
	$(VERSIONS)/newest/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[test]' $(PLUGINS:%=-e plugins/%)
	$(VERSIONS)/newest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		'gunicorn < 28' 'flask < 4' 'urllib3 < 3' 'peewee < 5' 'websockets < 18'
	touch $@

$(DOCS)/ready: docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	touch $@

$(BENCH)/python/ready:
	$(PYTHON) -m venv $(BENCH)/python
	$(BENCH)/python/bin/python -m pip install --quiet --disable-pip-version-check smg agentic-api
	touch $@

# Without npm, Portkey is left out. It streams with these versions of its web framework, not with newer ones.
PORTKEY = {"dependencies":{"@portkey-ai/gateway":"1"},"overrides":{"hono":"4.9.12","@hono/node-server":"1.13.7"}}
$(BENCH)/node_modules/ready:
	mkdir -p $(BENCH)/node_modules
	echo '$(PORTKEY)' > $(BENCH)/package.json
	! command -v npm > /dev/null || npm install --silent --no-audit --no-fund --prefix $(BENCH)
	touch $@

$(BENCH)/litellm/ready:
	$(PYTHON) -m venv $(BENCH)/litellm
	$(BENCH)/litellm/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]'
	touch $@

$(CLIENTS)/claude/done: Makefile
	npm install --silent --no-fund --no-audit --prefix $(@D) @anthropic-ai/claude-code@$(CLAUDE_CODE_VERSION)
	touch $@

$(CLIENTS)/axe/done:
	npm install --silent --no-fund --no-audit --prefix $(@D) axe-core@4
	touch $@

$(CLIENTS)/ai-sdk/done: Makefile
	npm install --silent --no-fund --no-audit --prefix $(@D) ai@7 @ai-sdk/anthropic@4 zod@4
	touch $@

$(CLIENTS)/gemini/done: Makefile
	npm install --silent --no-fund --no-audit --prefix $(@D) @google/gemini-cli@$(GEMINI_CLI_VERSION)
	touch $@

$(CLIENTS)/opencode/done: Makefile
	npm install --silent --no-fund --no-audit --prefix $(@D) opencode-ai@$(OPENCODE_VERSION)
	touch $@

$(CLIENTS)/litellm/done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'litellm >= 1.106, < 2'
	touch $@

$(CLIENTS)/langchain/done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'langchain-anthropic >= 1.7, < 2'
	touch $@

$(CLIENTS)/agents/done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'openai-agents >= 0.24, < 0.25'
	touch $@

$(CLIENTS)/chat/node/ready:
	npm install --silent --no-fund --no-audit --prefix $(CLIENTS)/chat/node openai ws
	touch $@

$(CLIENTS)/chat/%/ready:
	$(PYTHON) -m venv $(CLIENTS)/chat/$*
	$(CLIENTS)/chat/$*/bin/python -m pip install --quiet --disable-pip-version-check $*
	touch $@

$(CLIENTS)/%/ready:
	npm install --silent --no-fund --no-audit --prefix $(CLIENTS)/$* @openai/codex@$*
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) $(BENCH) $(DOCS) $(LOCK) $(VERSIONS) .shots build dist *.egg-info plugins/*/*.egg-info plugins/*/build
