"""``floway codex profile make``: profiles from recordings of the CLI."""

import json
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner
from floway_codex.commands.profile import profile
from floway_codex.wire.profile import parse_profile

from . import recordings


def make(tmp_path, *arguments):
    """Standard output, and the text of the profile."""
    output = tmp_path / "made.json"
    done = CliRunner().invoke(profile, ["make", *map(str, arguments), "--output", str(output)])
    return done, output.read_text() if output.exists() else None


@pytest.fixture
def folder(tmp_path):
    """A folder with the recordings of the newest version."""
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    recordings.write_recordings("0.171.0", recorded)
    return recorded


def edited(folder: Path, change) -> None:
    """Change each request of the recordings to the backend."""
    for file in folder.glob("*.json"):
        data = json.loads(file.read_text())
        for request in data["requests"]:
            request["headers"] = [tuple(pair) for pair in request["headers"]]
            change(request)
        file.write_text(json.dumps(data))


def shipped(version):
    return resources.files("floway_codex").joinpath("profiles", f"{version}.json").read_text()


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_the_shipped_profiles_are_its_unchanged_output(tmp_path, version):
    recordings.write_recordings(version, tmp_path)
    done, text = make(tmp_path, tmp_path)
    assert done.exit_code == 0, done.output
    assert text == shipped(version)


def test_it_says_what_is_not_expressed_and_what_is_different(tmp_path, folder):
    done, _ = make(tmp_path, folder)
    assert 'history_initialization: "cold_resume" in 6 of ' in done.output
    assert "turn_metadata: workspaces: {" in done.output and "instead of what the client sends" in done.output
    assert 'models_headers: accept-encoding is new: "zstd,gzip"' in done.output
    assert "Not recorded, so as in 0.169.0:\n  nothing" in done.output


def test_of_one_turn_everything_is_borrowed_that_it_does_not_show(tmp_path, folder):
    done, text = make(tmp_path, folder / "first_turn.json")
    assert "x-openai-subagent (a sub-agent is not recorded)" in done.output
    made, whole = json.loads(text), json.loads(shipped("0.171.0"))
    different = {name for name in whole if made[name] != whole[name]}
    assert different == {"token_headers"}  # only the recordings of renewals show that they name encodings, too


def test_what_a_version_may_change_is_found(tmp_path, folder):
    """Another version that adds, drops, moves and renames: each of it is in the profile."""

    def change(request):
        headers = [(name, value.replace("0.171.0", "0.180.0")) for name, value in request["headers"]]
        if request["method"] == "POST" and "/codex/responses" in request["path"]:
            body = request["body"]
            metadata = json.loads(dict(headers)[recordings.METADATA])
            metadata = {"schema": 2, **{key: value for key, value in metadata.items() if key != "agent_name"}}
            text = json.dumps(metadata, separators=(",", ":"))
            headers = [(name, text if name == recordings.METADATA else value) for name, value in headers]
            headers = [pair for pair in headers if pair[0] != "x-codex-routing-hint"]
            headers[1:1] = [("x-codex-route", f"{body['model']}/{metadata['thread_id']}"), ("x-codex-kind", "cli")]
            headers.append(headers.pop([name for name, _ in headers].index("accept")))
            client = {**body["client_metadata"], recordings.METADATA: text, "surface": "cli"}
            del client["mcp_attribution"]
            last = {"text": body["text"], "trace": True, "client_metadata": client}
            request["body"] = {**{key: value for key, value in body.items() if key not in last}, **last}
            for item in request["body"]["input"]:
                if item["type"] == "message" and item.get("role") == "user":
                    item.pop("id", None)
        request["headers"] = headers

    edited(folder, change)
    for file in folder.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"cli": "0.180.0"}))
    done, text = make(tmp_path, folder)
    assert done.exit_code == 0, done.output
    made = parse_profile(json.loads(text))
    values = {"model": "m", "thread_id": "t", "access_token": "a", "service_tier": "priority"}
    headers = made.responses_headers.render(values)
    assert (headers["x-codex-route"], headers["x-codex-kind"]) == ("m/t", "cli")
    assert "x-codex-routing-hint" not in headers and list(headers)[-1] == "accept"
    assert made.turn_metadata.names[0] == "schema" and made.turn_metadata.render({})["schema"] == 2
    assert "agent_name" not in made.turn_metadata.names
    assert made.client_metadata.render({})["surface"] == "cli"
    assert "mcp_attribution" not in made.client_metadata.names
    assert made.body_keys[-3:] == ("text", "trace", "client_metadata") and made.body.render({})["trace"] is True
    assert "id" not in made.items["message user"].names and "id" in made.items["message developer"].names
    differences = done.output.partition("Different from 0.171.0:")[2]
    for line in (
        'responses_headers: x-codex-kind is new: "cli"',
        "responses_headers: no x-codex-routing-hint",
        "turn_metadata: no agent_name",
        "client_metadata: no mcp_attribution",
        "body: trace is new: true",
        "items message user: no id",
    ):
        assert line in differences


def test_what_no_template_gives_is_said(tmp_path, folder):
    count = iter(range(1000))
    edited(folder, lambda request: request["headers"].insert(0, ("x-codex-serial", f"n{next(count)}")))
    done, text = make(tmp_path, folder)
    problems = done.output.partition("Not expressed")[2].partition("Not recorded")[0]
    assert "responses_headers: x-codex-serial: " in problems and "instead of what the client sends" in problems
    assert json.loads(text)["responses_headers"][0] == ["x-codex-serial"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{}", "is no recording"),
        ("no JSON", "is no recording"),
        (json.dumps({"cli": "1.0.0", "requests": []}), "No recordings"),
        (
            json.dumps({"cli": "1.0.0", "requests": [{"method": "GET", "path": "/x", "headers": [], "body": None}]}),
            "hold no turn",
        ),
    ],
)
def test_files_that_are_no_recordings_are_refused_with_one_line(tmp_path, content, message):
    (tmp_path / "file.json").write_text(content)
    done, text = make(tmp_path, tmp_path / "file.json")
    assert done.exit_code == 1 and message in done.output and text is None


def test_recordings_of_two_versions_are_no_profile(tmp_path):
    for version in ("0.142.0", "0.171.0"):
        (tmp_path / version).mkdir()
        recordings.write_recordings(version, tmp_path / version)
    done, _ = make(tmp_path, tmp_path / "0.142.0", tmp_path / "0.171.0")
    assert done.exit_code == 1 and "The recordings are of 0.142.0, 0.171.0." in done.output
