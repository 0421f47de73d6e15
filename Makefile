# Everything runs in a virtual environment of its own; PYTHON names the interpreter that makes it (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
CLIENTS ?= .clients
CODEX_CLI_VERSIONS = 0.142.0 0.169.0

.PHONY: demo test test-clients test-packages lint clean

demo: $(VENV)/ready
	$(VENV)/bin/floway codex demo

test: $(VENV)/ready lint
	$(VENV)/bin/python -m pytest tests plugins --ignore tests/e2e

# The real Codex CLI, from npm, through the gateway to the simulated backend.
test-clients: $(VENV)/ready $(CODEX_CLI_VERSIONS:%=$(CLIENTS)/%/ready)
	FLOWAY_TEST_CODEX_CLIS=$(abspath $(CLIENTS)) $(VENV)/bin/python -m pytest tests/e2e/test_codex_cli.py

# The wheels, built and installed into empty environments; and the plugins of docs/plugins.md, as a stranger would.
test-packages: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests/e2e/test_packages.py tests/e2e/test_third_party.py

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/ready: setup.cfg plugins/codex/setup.cfg plugins/echo/setup.cfg plugins/openai/setup.cfg
	$(PYTHON) -c 'import sys; sys.exit("Floway needs Python 3.11 or newer: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' -e plugins/codex -e plugins/echo -e plugins/openai
	touch $@

$(CLIENTS)/%/ready:
	npm install --silent --no-fund --no-audit --prefix $(CLIENTS)/$* @openai/codex@$*
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) build dist *.egg-info plugins/*/*.egg-info plugins/*/build
