"""The packages of docs/plugins.md work: built outside of this repository, installed with pip, and run."""

import json
import re
import sys
from pathlib import Path

import pytest

from ..support.documented_projects import projects
from .conftest import run

NOSY = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "floway-nosy"
version = "0.1.0"
dependencies = ["floway-core >= 0.1, < 0.2"]

[project.entry-points.floway]
nosy = "floway_nosy"
""",
    "floway_nosy/__init__.py": '''
"""A provider that writes down the attempts that its hooks hear of."""

import json
import os

from floway_core.hookspecs import hookimpl
from floway_core.provider import IterableBody, Model, Provider, UpstreamResponse


class Nosy(Provider):
    kind = "nosy"

    def list_models(self, upstream):
        return [Model("nosy-1", "nosy")]

    def send(self, ctx):
        return UpstreamResponse(200, [("content-type", "application/json")], IterableBody([b'{"output": []}']))


@hookimpl
def register_providers(services):
    return [Nosy()]


@hookimpl
def on_attempt_start(ctx):
    heard("on_attempt_start", ctx)


@hookimpl
def prepare_responses_request(ctx):
    heard("prepare_responses_request", ctx.attempt)


@hookimpl
def on_snapshot_commit(ctx):
    heard("on_snapshot_commit", ctx.attempt)


def heard(hook, attempt):
    with open(os.environ["NOSY_FILE"], "a") as file:
        file.write(json.dumps([hook, attempt.upstream.name]) + "\\n")
''',
}

# What follows runs in the environment of the installed packages, and prints a JSON value at its end.
START = """
import json
from floway_core.testing import ApiClient, FakeUpstream, Installation, Reply, RunningGateway
from floway_core.testing import message_item, message_stream

def texts(response):
    return [part["text"] for item in response["output"] for part in item["content"]]

def run(gateway, *arguments, **options):
    done = gateway.run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
"""

ASK_TWICE = """
with RunningGateway(installed=["parrot"]) as gateway:
    run(gateway, "upstreams", "add", "parrot", "polly")
    caller = ApiClient(gateway.url, gateway.key)
    first = caller.create(model="parrot-1").json()
    events = caller.stream(model="parrot-1", previous_response_id=first["id"]).events()
    models = json.loads(run(gateway, "models", "--json"))
print(json.dumps([texts(first), [event["type"] for event in events], texts(events[-1]["response"]), models]))
"""

ADD_POLLY = """
def add_polly(gateway, upstream):
    options = ["--base-url", upstream.url, "--key-file", "-", "--mood", "grumpy", "--model", "parrot-1", "--no-test"]
    run(gateway, "upstreams", "add", "parrot", "polly", *options, typed="a-cracker")
"""

ASK_A_SERVER = """
with FakeUpstream() as upstream, RunningGateway(installed=["parrot"]) as gateway:
    add_polly(gateway, upstream)
    caller = ApiClient(gateway.url, gateway.key)
    upstream.script(*[Reply(message_stream(text)) for text in ("One.", "Two.", "Three.")])
    first = caller.create(model="parrot-1").json()
    run(gateway, "parrot", "set-password", "polly", typed="doubloons")
    continued = [caller.create(model="parrot-1", previous_response_id=first["id"]).json() for _ in range(2)]
    sent = [(r.path, r.header("authorization"), r.header("x-password"), r.header("x-turn")) for r in upstream.requests]
print(json.dumps([[texts(response) for response in (first, *continued)], sent]))
"""

ASK_WITH_A_KEY = """
with FakeUpstream() as upstream, RunningGateway(installed=["parrot"]) as gateway:
    add_polly(gateway, upstream)
    upstream.script(Reply(message_stream("One.")))
    answer = ApiClient(gateway.url, gateway.key).create(model="parrot-1").json()
    (sent,) = upstream.requests
print(json.dumps([texts(answer), sent.path, sent.header("authorization"), sent.header("x-mood")]))
"""

ASK_EVERYBODY = """
import sys
nosy_file, tally_file = sys.argv[1:]
with FakeUpstream() as upstream, RunningGateway(
    {"tally_file": tally_file}, installed=["parrot", "tally", "echo", "nosy"], environ={"NOSY_FILE": nosy_file}
) as gateway:
    add_polly(gateway, upstream)
    run(gateway, "echo", "add", "mirror")
    run(gateway, "upstreams", "add", "nosy", "nosy")
    caller = ApiClient(gateway.url, gateway.key)
    upstream.script(*[Reply(message_stream())] * 2)
    statuses = [caller.create(model=model).status for model in ("parrot-1", "echo", "parrot-1", "nosy-1")]
    gateway.stop()  # what is left for observers is delivered before
with open(tally_file) as file:
    print(json.dumps([statuses, [json.loads(line) for line in file]]))
"""


SEND_NOTES = """
with FakeUpstream() as upstream, RunningGateway(installed=["parrot", "notes"]) as gateway:
    run(gateway, "upstreams", "add", "parrot", "polly")
    caller = ApiClient(gateway.url, gateway.key)
    whole = caller.post({"model": "parrot-1", "note": "Hi"}, "/v1/notes").json()
    stream = caller.post({"model": "parrot-1", "note": "Hi", "live": True}, "/v1/notes").body.decode()
    refused = caller.post({"model": "parrot-1", "note": 1}, "/v1/notes")
    print(json.dumps([whole["reply"], stream, refused.status, refused.json()]))
"""


class Stranger:
    """Somebody with an environment of the released packages, and a folder of their own."""

    def __init__(self, environment, folder):
        self.environment = environment
        self.folder = folder

    def write(self, files):
        for path, text in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def install(self, project):
        """Build the wheel of a project and install it."""
        out = self.folder / "dist" / project
        run(sys.executable, "-m", "build", "--wheel", "--outdir", out, self.folder / project)
        (wheel,) = out.glob("*.whl")
        self.environment("pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)

    def test(self, project):
        """Run the tests of a project; what pytest prints."""
        self.environment("pip", "install", "--quiet", "pytest")
        return self.environment("python", "-m", "pytest", "-q", self.folder / project / "tests")

    def drive(self, script, *arguments):
        """Run a script in the environment; the value it prints."""
        return json.loads(self.environment("python", "-c", START + ADD_POLLY + script, *arguments))


@pytest.fixture(scope="module")
def environment_with_core(wheels, shared_environment):
    shared_environment("pip", "install", "--quiet", wheels["floway_core"], wheels["floway_echo"])
    return shared_environment


@pytest.fixture
def stranger(environment_with_core, tmp_path):
    return Stranger(environment_with_core, tmp_path)


def test_the_first_provider_answers(stranger):
    stranger.write(projects("A provider that answers"))
    stranger.install("floway-parrot")
    first, kinds, second, models = stranger.drive(ASK_TWICE)
    assert first == second == ["Hello!"] and kinds[-1] == "response.completed"
    assert models == {"parrot-1": ["polly"]}
    assert "parrot" in stranger.environment("floway", "plugins")


def test_the_second_one_streams(stranger):
    stranger.write(projects("Streaming"))
    stranger.install("floway-parrot")
    first, kinds, second, _ = stranger.drive(ASK_TWICE)
    assert (first, second) == (["I have heard 1 things."], ["I have heard 3 things."])
    assert kinds.count("response.output_text.delta") == 5 and kinds[-1] == "response.completed"


def test_the_third_one_has_a_key(stranger):
    stranger.write(projects("An upstream with a key"))
    stranger.install("floway-parrot")
    assert stranger.drive(ASK_WITH_A_KEY) == [["One."], "/responses", "Bearer a-cracker", "grumpy"]
    assert "[cheerful|grumpy]" in stranger.environment("floway", "upstreams", "add", "parrot", "--help")


def test_the_fourth_one_has_a_table(stranger):
    stranger.write(projects("A table of its own"))
    stranger.install("floway-parrot")
    answers, sent = stranger.drive(ASK_A_SERVER)
    assert answers == [["One."], ["Two."], ["Three."]]
    passwords = [None, "doubloons", "doubloons"]
    assert sent == [["/responses", "Bearer a-cracker", password, None] for password in passwords]


def test_the_last_one_remembers_and_keeps_the_contract(stranger):
    stranger.write(projects("Test it"))
    stranger.install("floway-parrot")
    _, sent = stranger.drive(ASK_A_SERVER)
    assert [turn for *_, turn in sent] == ["1", "2", "2"]
    told = stranger.test("floway-parrot")
    assert re.search(r"\d\d passed, 3 skipped", told), told  # no mended errors, no sign-in, no shallow copies


def test_a_server_with_another_api_keeps_the_contract(stranger):
    stranger.write(projects("A server with another API"))
    stranger.install("floway-starling")
    told = stranger.test("floway-starling")
    assert re.search(r"\d\d passed, \d+ skipped", told), told


def test_a_dialect_answers_and_streams(stranger):
    stranger.write(projects("Streaming"))
    stranger.install("floway-parrot")
    for section, stream in (
        ("A dialect", '{"id":'),
        ("Streams of a dialect", 'data: {"word":"I "}\n\ndata: {"word":"have "}'),
    ):
        stranger.write({path: text for path, text in projects(section).items() if path.startswith("floway-notes/")})
        stranger.install("floway-notes")
        reply, streamed, status, refused = stranger.drive(SEND_NOTES)
        assert reply == "I have heard 1 things." and streamed.startswith(stream)
        assert (status, refused["error"]["param"]) == (400, "note")
    assert streamed.endswith("data: over\n\n")


def test_the_whole_dialect_keeps_the_contract(stranger):
    stranger.write({path: text for path, text in projects().items() if path.startswith("floway-notes/")})
    stranger.install("floway-notes")
    told = stranger.test("floway-notes")
    assert re.search(r"\d\d passed", told) and "skipped" not in told, told


def test_an_observer_hears_of_all_attempts_and_a_provider_of_its_own(stranger):
    stranger.write(projects())
    stranger.write({f"floway-nosy/{path}": text.lstrip() for path, text in NOSY.items()})
    for project in ("floway-parrot", "floway-tally", "floway-nosy"):
        stranger.install(project)
    file = stranger.folder / "nosy.jsonl"
    statuses, tally = stranger.drive(ASK_EVERYBODY, file, stranger.folder / "tally.jsonl")
    assert statuses == [200] * 4
    assert [(line["upstream"], line["outcome"]) for line in tally] == [
        (name, "completed") for name in ("polly", "mirror", "polly", "nosy")
    ]
    assert tally[0]["tokens"] == 5
    heard = [json.loads(line) for line in Path(file).read_text().splitlines()]
    hooks = ["on_attempt_start", "prepare_responses_request", "on_snapshot_commit"]
    assert heard == [[hook, "nosy"] for hook in hooks]
    stranger.environment("pip", "check")
