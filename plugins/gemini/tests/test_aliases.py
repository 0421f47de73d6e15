"""The command that lets other models serve those that Gemini CLI names itself."""

import json

from floway_gemini.aliases import FAST, STRONG


def test_the_aliases_are_set(gemini_gateway):
    done = gemini_gateway.run("gemini", "aliases", "gemini-test", "gemini-3-test")
    assert done.returncode == 0 and "'gemini-2.5-pro' stands for gemini-test." in done.stderr
    rows = json.loads(gemini_gateway.run("aliases", "list", "--json").stdout)
    targets = {row["name"]: row["targets"][0]["model"] for row in rows if row["name"] in (*STRONG, *FAST)}
    assert targets == {**dict.fromkeys(STRONG, "gemini-test"), **dict.fromkeys(FAST, "gemini-3-test")}
    listed = gemini_gateway.run("models").stdout
    assert all(name in listed for name in targets)
    for name in targets:
        assert gemini_gateway.run("aliases", "remove", name).returncode == 0
