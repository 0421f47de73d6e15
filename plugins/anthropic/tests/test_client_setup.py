"""How ``floway setup claude`` configures Claude Code. ``tests/e2e/test_client_setup.py`` runs it."""

import json
from pathlib import Path

from floway_anthropic.client_setup import ClaudeCodeSetup

from floway_core.client_setup import SetupTarget

URL, KEY = "http://127.0.0.1:8788", "sk-floway-test"


def edited(text, key):
    (file,) = ClaudeCodeSetup().files(SetupTarget(URL, "gpt-5.5", key), {"CLAUDE_CONFIG_DIR": "/somewhere"})
    assert file.path == Path("/somewhere/settings.json")
    return file.edit(text)


def test_the_key_is_in_the_file_or_in_the_environment():
    written, printed = json.loads(edited("", KEY)), json.loads(edited("", None))
    assert written["env"].pop("ANTHROPIC_AUTH_TOKEN") == KEY and "apiKeyHelper" not in written
    assert printed.pop("apiKeyHelper") == "printenv FLOWAY_API_KEY"
    assert written == printed and written["env"].pop("ANTHROPIC_BASE_URL") == URL
    assert set(written["env"].values()) == {"gpt-5.5"} and len(written["env"]) == 4


def test_other_settings_stay():
    after = edited('{"env": {"MINE": "1"}, "permissions": {"deny": []}}', KEY)
    settings = json.loads(after)
    assert settings["env"]["MINE"] == "1" and settings["permissions"] == {"deny": []}
    assert edited(after, KEY) == after


def test_the_check_is_a_message_with_the_key():
    request = ClaudeCodeSetup().check(SetupTarget(URL, "gpt-5.5", KEY))
    assert request.path == "/v1/messages" and request.headers["authorization"] == f"Bearer {KEY}"
