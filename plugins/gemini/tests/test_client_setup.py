"""How ``floway setup gemini`` configures Gemini CLI. ``tests/e2e/test_client_setup.py`` runs it."""

import json
from pathlib import Path

from floway_gemini.client_setup import GeminiCliSetup

from floway_core.client_setup import SetupTarget

URL, KEY = "http://127.0.0.1:8788", "sk-floway-test"
WITH_KEY, WITHOUT_KEY = SetupTarget(URL, "gpt-5.5", KEY), SetupTarget(URL, "gpt-5.5")


def test_settings_and_variables():
    settings, variables = GeminiCliSetup().files(WITH_KEY, {"GEMINI_CLI_HOME": "/home/me"})
    assert [settings.path, variables.path] == [Path("/home/me/.gemini", name) for name in ("settings.json", ".env")]
    assert json.loads(settings.edit("")) == {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "model": {"name": "gpt-5.5"},
    }
    assert variables.edit("MINE=1\n") == f"MINE=1\nGOOGLE_GEMINI_BASE_URL={URL}\nGEMINI_API_KEY={KEY}\n"
    assert GeminiCliSetup().variables(WITH_KEY) == {}


def test_without_a_key_the_environment_has_it():
    _, variables = GeminiCliSetup().files(WITHOUT_KEY, {})
    assert variables.edit("") == f"GOOGLE_GEMINI_BASE_URL={URL}\n"
    assert GeminiCliSetup().variables(WITHOUT_KEY) == {"GEMINI_API_KEY": "$FLOWAY_API_KEY"}


def test_the_check_asks_in_the_clients_api():
    request = GeminiCliSetup().check(WITH_KEY)
    assert request.path == "/v1beta/models/gpt-5.5:generateContent" and request.headers == {"x-goog-api-key": KEY}
