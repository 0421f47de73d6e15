"""The command that lets other models serve those that Gemini CLI names itself."""

import json

from floway_gemini.aliases import FAST, STRONG

from floway_core.testing import RunningGateway

from .conftest import GeminiClient


def test_the_aliases_are_set():
    with RunningGateway(installed=["echo", "gemini"]) as gateway:
        hints = gateway.run("upstreams", "list").stdout  # `floway gemini` adds no upstream
        assert "`floway upstreams add gemini --help`" in hints and "`floway echo --help`" in hints
        assert gateway.run("echo", "add", "mirror").returncode == 0
        done = gateway.run("gemini", "aliases", "mirror/echo", "echo")
        assert done.returncode == 0 and "'gemini-2.5-pro' is an alias for mirror/echo." in done.stderr
        rows = json.loads(gateway.run("aliases", "list", "--json").stdout)
        targets = {row["name"]: row["targets"][0]["model"] for row in rows}
        assert targets == {**dict.fromkeys(STRONG, "mirror/echo"), **dict.fromkeys(FAST, "echo")}
        listed = GeminiClient(gateway).get("/v1beta/models").json()["models"]
        assert {f"models/{name}" for name in FAST} <= {model["name"] for model in listed}
        answer = GeminiClient(gateway).generate("Hi", model="gemini-3-flash-preview").json()
        assert answer["modelVersion"] == "gemini-3-flash-preview"
