"""Requests of clients that are no CLI, and the gateway's own, against the recordings of each version of the CLI."""

import json
import re
from dataclasses import replace
from importlib import resources

import pytest
from floway_codex import plugin
from floway_codex.account.auth_file import import_account
from floway_codex.identity.client import detect_client
from floway_codex.provider import CodexProvider
from floway_codex.simulator import Simulator
from floway_codex.simulator.catalogue import Catalogue
from floway_codex.wire import host, profile
from floway_codex.wire.request import add_authorization

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest
from floway_core.runtime.settings_loader import load_settings
from floway_core.settings import SettingsError

from . import gateways, recordings
from .conftest import auth_json, dispatch, open_services
from .recordings import as_for_gateway, dispatches

HOST = "Debian 12.0.0; x86_64; xterm-256color"
"""That of the recordings."""
MODELS = {"0.142.0": "gpt-5.5", "0.156.1": "gpt-6-astra", "0.169.0": "gpt-6.1-sol", "0.171.0": "gpt-6.2-sol"}
"""The default model of each version."""
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
FUNCTION = {"type": "function", "name": "f", "strict": False, "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def backend():
    with Simulator() as simulator:
        by_slug = simulator.backend.catalogue.by_slug()
        entries = [{**by_slug["gpt-6.1-sol"], "slug": slug} for slug in ("gpt-6-astra", "gpt-6.2-sol")]
        simulator.backend.catalogue = Catalogue((*simulator.backend.catalogue.models, *entries), 'W/"1"')
        yield simulator


@pytest.fixture(scope="module", params=recordings.VERSIONS)
def front(backend, request):
    """A gateway that appears as one version on the host of the recordings."""
    settings = {"codex_profile": request.param, "codex_host": HOST, "codex_request_encoding": "zstd"}
    with gateways.start(backend, **settings) as gateway:
        backend.clear()
        gateways.import_account(gateway, backend.new_account(access_lifetime=-5))  # so that the token is renewed
        yield request.param, gateways.Front(backend, gateway)


# ------------------------------------------------------------------------------------------------- other clients' turns
def masked(value):
    """A value with its ids by their version, and without times."""
    if isinstance(value, dict):
        return {key: masked(part) for key, part in value.items()}
    if isinstance(value, str):
        return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9])[0-9a-f-]{21}", r"<uuid\1>", value)
    return "<time>" if isinstance(value, int) and value > 10**9 else value


@pytest.mark.parametrize("scenario", ["first_turn", "first_turn_other_model"])
def test_a_turn_of_another_client_looks_like_one_of_the_cli(front, scenario):
    version, both = front
    (recorded,) = dispatches(version, scenario)
    if recorded.body["model"] == "gpt-lite-test":
        pytest.skip("the backend takes the form of newer versions only")
    request = both.sent(model=recorded.body["model"], instructions="Be brief.", tools=[FUNCTION], input="ping")
    own = {"authorization", "chatgpt-account-id", "host", "content-length", recordings.METADATA}
    assert [name for name, _ in request.headers] == [name for name, _ in recorded.headers]
    theirs = {name: masked(value) for name, value in recorded.headers if name not in own}
    assert {name: masked(value) for name, value in request.headers if name not in own} == theirs

    metadata, expected = (json.loads(dict(one.headers)[recordings.METADATA]) for one in (request, recorded))
    del expected["workspaces"]  # the CLI was in a Git project
    assert list(masked(metadata).items()) == list(masked(expected).items())
    client, expected = request.body["client_metadata"], recorded.body["client_metadata"]
    del client[recordings.METADATA], expected[recordings.METADATA]
    assert masked(client) == masked(expected)

    assert list(request.body) == list(recorded.body)
    same = set(recorded.body) - {"input", "tools", "instructions", "client_metadata"}
    assert {name: masked(request.body[name]) for name in same} == {name: masked(recorded.body[name]) for name in same}
    assert list(request.body["reasoning"]) == list(recorded.body["reasoning"])
    kinds = ["additional_tools"] * ("tools" not in recorded.body) + ["message"] * ("instructions" not in recorded.body)
    assert [item["type"] for item in request.body["input"]] == [*kinds, "message"]
    for item, like in zip(request.body["input"], [*recorded.body["input"][: len(kinds)], recorded.body["input"][-1]],
                          strict=True):  # fmt: skip
        assert list(item) == [key for key in like if key != recordings.PASSTHROUGH]
        assert masked(item.get("id")) == masked(like.get("id"))


def test_every_id_of_another_client_is_a_uuid7(front):
    _, both = front
    for body in ({"input": "ping"}, {"input": []}):
        found = gateways.ids(both.sent(**body))
        assert all(UUID7.fullmatch(found[name].partition(":")[0]) for name in found if name != "installation"), found


# ------------------------------------------------------------------------------------------------------- own requests
def test_own_requests_are_those_of_the_cli(front):
    """Headers in order and case, ``host`` and all, and the keys of the body."""
    version, both = front
    with gateways.start(both.simulator, codex_profile=version, codex_host=HOST) as gateway:
        both.simulator.clear()
        gateways.import_account(gateway, both.simulator.new_account(access_lifetime=-5))
        assert gateways.ask(gateway).status == 200
    for kind, path in recordings.OWN_PATHS.items():
        (sent,) = [one for one in both.simulator.requests if one.path.startswith(path)]
        recorded = recordings.own_requests(version, kind)
        orders = [[name for name, _ in one["headers"]] for one in recorded]
        assert [name for name, _ in sent.headers] in orders
        own = {"authorization", "chatgpt-account-id", "host", "content-length"}
        values = [{name: value for name, value in one["headers"] if name not in own} for one in recorded]
        assert {name: value for name, value in sent.headers if name not in own} in values
        if kind == "token":
            reasons = [one["body"].get("refresh_reason") for one in recorded]
            assert list(sent.body) == list(recorded[0]["body"]) and sent.body.get("refresh_reason") in reasons
        else:
            assert sent.path == f"{path}?client_version={version}"


# ---------------------------------------------------------------------------------------------------------------- host
@pytest.mark.parametrize(
    "environ, terminal",
    [
        ({"TERM": "xterm-256color"}, "xterm-256color"),
        ({"TERM": "xterm", "TERM_PROGRAM": "vscode", "TERM_PROGRAM_VERSION": "1.99.0"}, "vscode/1.99.0"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "TERM_PROGRAM_VERSION": "3.3a"}, "tmux-256color"),
        ({"TERM": "dumb"}, None),
        ({}, None),
    ],
)
def test_the_terminal_is_that_of_the_process(environ, terminal):
    assert host.find_host(environ).get("terminal") == terminal


@pytest.mark.parametrize(
    "system, release, found",
    [
        ("Linux", {"ID": "debian", "VERSION_ID": "12"}, ("Debian 12.0.0", "seccomp")),
        ("Linux", {"ID": "ubuntu", "VERSION_ID": "24.04"}, ("Ubuntu 24.4.0", "seccomp")),
        ("Linux", {"ID": "arch"}, ("Arch Linux Rolling Release", "seccomp")),
        ("Darwin", {}, ("Mac OS 26.5.0", "seatbelt")),
    ],
)
def test_the_system_is_that_of_the_host(monkeypatch, system, release, found):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    monkeypatch.setattr("platform.mac_ver", lambda: ("26.5", ("", "", ""), "arm64"))
    values = host.find_host({})
    assert (values["os"], values["sandbox"]) == found


def test_a_stated_host_is_that_of_the_user_agent():
    settings = load_settings({"FLOWAY_CODEX_HOST": "Mac OS 26.5.0; arm64; iTerm.app/3.6.10"}, plugin.SETTINGS).plugin
    values = host.default_profile(settings).static_values
    version = list(profile.load_profiles())[-1]
    agent = f"codex_exec/{version} (Mac OS 26.5.0; arm64) iTerm.app/3.6.10 (codex_exec; {version})"
    assert (values["user_agent"], values["sandbox"]) == (agent, "seatbelt")
    for wrong in ("Linux", "a; b", "a; b; c d", "a; b; \xe9", "a; b; c; d"):
        with pytest.raises(SettingsError, match="FLOWAY_CODEX_HOST"):
            load_settings({"FLOWAY_CODEX_HOST": wrong}, plugin.SETTINGS)


# ------------------------------------------------------------------------------------------------------------ profiles
def sent(tmp_path, headers, body, **environ):
    """Headers and body that would be sent for a client's request."""
    services = open_services(tmp_path, **environ)
    provider, upstream = CodexProvider(services), import_account(services, auth_json())
    request = ClientRequest("req", ApiKey("key", "test"), headers, body, True, None)
    attempt = AttemptContext("att", request, upstream, provider, body["model"])
    plugin.on_attempt_start(attempt)
    ctx = dispatch(attempt)
    services.database.close_all()
    return ctx.headers, ctx.body


def test_the_routing_hint_names_the_tier():
    headers = profile.load_profiles()["0.171.0"].responses_headers
    known = {"model": "m", "service_tier": "priority"}
    assert headers.render(known)["x-codex-routing-hint"] == "model=m;tier=priority"
    assert headers.render({"model": "m"})["x-codex-routing-hint"] == "model=m"


def test_an_unknown_profile_is_refused_with_the_list_of_them():
    with pytest.raises(SettingsError, match=r"'0\.1' is not one of newest, 0\.142\.0, 0\.156\.1"):
        load_settings({"FLOWAY_CODEX_PROFILE": "0.1"}, plugin.SETTINGS)
    with pytest.raises(SettingsError, match=r"'9\.9\.9' is not one of newest, 0\.142\.0"):
        host.default_profile(load_settings({"FLOWAY_CODEX_PROFILE": "9.9.9"}, plugin.SETTINGS).plugin)


def shipped(version):
    return json.loads(resources.files("floway_codex").joinpath("profiles", f"{version}.json").read_text())


def test_a_profile_with_a_mistake_is_refused():
    data = shipped("0.171.0")
    for changes, message in (
        ({"user_agent": "{sesion_id}"}, "sesion_id"),
        ({"instructions": "somewhere"}, "somewhere|neither"),
        ({"body": [["stream", {"if": "lit", "value": 1}]]}, "lit"),
    ):
        with pytest.raises(ValueError, match=message):
            profile.parse_profile({**data, **changes})
    del data["token_body"]
    with pytest.raises(ValueError, match="token_body"):
        profile.parse_profile(data)


def test_another_version_is_another_file(tmp_path):
    """In a folder of the operator's; its headers, metadata and body keys need no code."""
    data = shipped("0.171.0") | {"version": "9.0.0"}
    data["responses_headers"].insert(0, ["x-codex-new", "{thread_id}/{window_number}"])
    data["turn_metadata"][:0] = [["new", True], ["one", 1], ["more", {"a": []}]]
    data["body"].insert(0, ["input"])
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "mine.json").write_text(json.dumps(data))
    environ = {"FLOWAY_CODEX_PROFILES": str(folder)}
    headers, body = sent(tmp_path, {"session-id": "s"}, {"model": "gpt-5.5", "input": "ping"}, **environ)
    assert next(iter(headers.items())) == ("x-codex-new", "s/0") and headers["version"] == "9.0.0"
    assert headers["x-codex-turn-metadata"].startswith('{"new":true,"one":1,"more":{"a":[]},')
    assert next(iter(body)) == "input"
    (folder / "mine.json").write_text("{}")
    profile.load_profiles.cache_clear(), profile.read_profile_files.cache_clear()
    with pytest.raises(SettingsError, match=r"mine\.json"):
        load_settings(environ, plugin.SETTINGS)


def as_version(version, recorded):
    """The client of a recorded request, with another version in its name."""
    sent_to_gateway = as_for_gateway(dispatches(recorded, "first_turn")[0], None)
    headers = dict(sent_to_gateway.headers)
    headers["user-agent"] = headers["user-agent"].replace(recorded, version)
    return headers, sent_to_gateway.body


@pytest.mark.parametrize("recorded", recordings.VERSIONS)
@pytest.mark.parametrize("version", ["0.99.0", "0.150.1", "0.160.1", "0.170.0"])
def test_a_version_without_a_profile_gets_the_one_that_is_most_like_its_requests(version, recorded):
    client = detect_client(*as_version(version, recorded))
    assert profile.closest_profile(client.version, client.shape).version == recorded
    newer = detect_client(*as_version("0.200.0-alpha.1", recorded))
    assert profile.closest_profile(newer.version, newer.shape).version == list(profile.load_profiles())[-1]


def test_among_profiles_that_fit_alike_the_nearest_older_one_is_chosen():
    bare = profile.RequestShape(frozenset(), (), (), frozenset())
    chosen = {one: profile.closest_profile(one, bare).version for one in ("0.99.0", "0.155.0", "0.160.1", "1.0.0")}
    assert chosen == {"0.99.0": "0.142.0", "0.155.0": "0.142.0", "0.160.1": "0.156.1", "1.0.0": "0.171.0"}
    assert (
        profile.closest_profile("0.142.0", replace(bare, headers=frozenset({"accept-encoding"}))).version == "0.142.0"
    )


def test_a_newer_cli_keeps_its_version_and_its_headers(tmp_path):
    headers, body = as_version("0.180.0", "0.171.0")
    own = {"x-codex-new-thing": "1", "x-oai-attestation": "a"}
    pairs = list(headers.items())
    at = list(headers).index("x-codex-window-id") + 1
    given = dict([*pairs[:at], ("x-codex-new-thing", "1"), *pairs[at:], ("x-oai-attestation", "a"), ("x-mine", "b")])
    body["client_metadata"]["new_key"] = "kept"
    made, made_body = sent(tmp_path, given, {**body, "new_field": 1})
    assert made["version"] == "0.180.0" and made["user-agent"] == headers["user-agent"]
    assert {name: made[name] for name in own} == own and "x-mine" not in made
    names = list(made)
    assert names.index("x-codex-new-thing") == names.index("x-codex-window-id") + 1
    assert made_body["client_metadata"]["new_key"] == "kept" and list(made_body)[-1] == "new_field"
    newest = profile.load_profiles()["0.171.0"]
    with_token = list(add_authorization(newest, made, "token"))
    assert [name for name in with_token if name != "authorization"] == names
    known = [name for name in newest.responses_headers.names if name in with_token]
    assert [name for name in with_token if name in known] == known


@pytest.mark.parametrize("version", recordings.VERSIONS)
def test_the_turn_metadata_of_a_profile_is_complete(version):
    """To requests of clients that have none of their own, nothing is added."""
    names = set(profile.load_profiles()[version].turn_metadata.names)
    assert names >= {"installation_id", "session_id", "thread_id", "turn_id", "window_id", "request_kind", "compaction"}


# ------------------------------------------------------------------------------------------------------------ answers
def test_answers_in_the_coding_that_the_cli_accepts_are_understood(backend):
    """Models, tokens, usage, and turns, streamed or not; a stream passes on event by event."""
    assert dict(dispatches("0.171.0", "first_turn")[0].headers)["accept-encoding"] == "zstd,gzip"
    backend.compresses = True
    try:
        with gateways.start(backend, codex_profile="0.171.0") as gateway:
            backend.clear()
            gateways.import_account(gateway, backend.new_account(access_lifetime=-5))
            both = gateways.Front(backend, gateway)
            whole = both.ask(input="ping")
            events = both.send({"input": "ping", "stream": True}).events()
            refused = both.send({"input": "ping", "made_up": 1})
            [shown] = gateways.status(gateway)
    finally:
        backend.compresses = False
    assert whole["output"][0]["content"][0]["text"] == "You said: ping"
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "You said: ping"
    assert "Unsupported parameter: made_up" in refused.json()["error"]["message"]
    assert shown["limits"] and shown["models_fetched_at"] and backend.refreshes
    assert all("zstd" in one.header("accept-encoding") for one in backend.requests)
