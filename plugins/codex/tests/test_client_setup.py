"""How ``floway setup codex`` configures the CLI. ``tests/e2e/test_client_setup.py`` runs the CLI with it."""

import tomllib
from pathlib import Path

from floway_codex.client_setup import CodexSetup

from floway_core.client_setup import SetupTarget

URL, KEY = "http://127.0.0.1:8788", "sk-floway-test"
MINE = '# mine\nmodel = "other"\n\n[model_providers.floway]\nenv_key = "OLD"\nquery_params = { a = "b" }\n'


def edited(text, key):
    (file,) = CodexSetup().files(SetupTarget(URL, "gpt-5.5", key), {"CODEX_HOME": "/somewhere"})
    assert file.path == Path("/somewhere/config.toml")
    return file.edit(text)


def test_the_key_is_in_the_file_or_in_the_environment():
    common = {"name": "Floway", "base_url": f"{URL}/v1", "wire_api": "responses", "supports_websockets": True}
    for key, names in ((KEY, {"experimental_bearer_token": KEY}), (None, {"env_key": "FLOWAY_API_KEY"})):
        config = tomllib.loads(edited("", key))
        expected = {"floway": {**common, **names}}
        assert config == {"model": "gpt-5.5", "model_provider": "floway", "model_providers": expected}


def test_a_provider_of_this_name_is_replaced_and_the_rest_stays():
    after = edited(MINE, KEY)
    provider = tomllib.loads(after)["model_providers"]["floway"]
    assert after.startswith("# mine\n") and provider["query_params"] == {"a": "b"}
    assert "env_key" not in provider and provider["experimental_bearer_token"] == KEY
    assert tomllib.loads(edited(after, None))["model_providers"]["floway"]["env_key"] == "FLOWAY_API_KEY"
    assert edited(after, KEY) == after
