"""How ``floway setup openai`` and ``opencode`` configure clients. ``tests/e2e/test_client_setup.py`` runs opencode."""

import json

from floway_openai.client_setups import OpenAISetup, OpencodeSetup

from floway_core.client_setup import SetupTarget

URL, KEY = "http://127.0.0.1:8788", "sk-floway-test"
WITH_KEY, WITHOUT_KEY = SetupTarget(URL, "gpt-5.5", KEY), SetupTarget(URL, "gpt-5.5")


def test_the_sdks_read_variables():
    assert OpenAISetup().files(WITH_KEY, {}) == ()
    assert OpenAISetup().variables(WITH_KEY) == {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": KEY}
    assert OpenAISetup().variables(WITHOUT_KEY)["OPENAI_API_KEY"] == "$FLOWAY_API_KEY"


def test_opencode_gets_a_provider(tmp_path):
    for target, key in ((WITH_KEY, KEY), (WITHOUT_KEY, "{env:FLOWAY_API_KEY}")):
        (file,) = OpencodeSetup().files(target, {"XDG_CONFIG_HOME": str(tmp_path)})
        config = json.loads(file.edit(""))
        assert file.path == tmp_path / "opencode/opencode.json" and config["model"] == "floway/gpt-5.5"
        assert config["provider"]["floway"]["options"] == {"baseURL": f"{URL}/v1", "apiKey": key}
        assert list(config["provider"]["floway"]["models"]) == ["gpt-5.5"]


def test_opencode_keeps_its_file_with_comments(tmp_path):
    (tmp_path / "opencode").mkdir()
    (tmp_path / "opencode/opencode.jsonc").write_text("{} // mine\n")
    (file,) = OpencodeSetup().files(WITH_KEY, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert file.path.name == "opencode.jsonc" and file.edit(file.path.read_text()).endswith("} // mine\n")
