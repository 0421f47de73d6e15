"""Profiles against the shapes in the recordings of the CLI (``golden/shapes.json``)."""

import json
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from floway_codex import plugin
from floway_codex.account.auth_file import import_account
from floway_codex.provider import CodexProvider
from floway_codex.wire import profile, request

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest
from floway_core.settings import SettingsError, load_settings

from .conftest import MODELS_URL, TOKEN_URL, auth_json, dispatch, open_services, token

SHAPES = json.loads((Path(__file__).parent / "golden" / "shapes.json").read_text())
VERSIONS = list(SHAPES)

# What a client has to give so that everything the recordings have is there.
TURN = {"workspaces": {"/home/user": {"has_changes": False}}}
SUBAGENT = {
    **TURN,
    "parent_thread_id": "parent",
    "subagent_kind": "review",
    "parent_turn_id": "pt",
    "root_turn_id": "rt",
}
BODY = {
    "text": {"verbosity": "low"},
    "reasoning": {"effort": "low"},
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "input": "ping",
    "instructions": "Be brief.",
    "model": "gpt-5.5",
}


@pytest.fixture(params=VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture
def gateway(version: str, tmp_path: Path):
    """Services and provider with the profile of ``version``, and an account."""
    services = open_services(tmp_path, FLOWAY_CODEX_PROFILE=version)
    yield services, CodexProvider(services), import_account(services, auth_json())
    services.database.close_all()


def sent(gateway, body: dict, headers: dict, lite: bool = False):
    """The request that would be sent: ``(headers, body)``."""
    _, provider, upstream = gateway
    client_request = ClientRequest("req", ApiKey("key", "test"), headers, body, True, None)
    attempt = AttemptContext("att", client_request, upstream, provider, body["model"])
    plugin.on_attempt_start(attempt)
    attempt.provider_state.lite = lite
    ctx = dispatch(attempt)
    return request.add_authorization(attempt.provider_state.profile, ctx.headers, "TOKEN"), ctx.body


@pytest.mark.parametrize("kind", ["plain turn", "lite turn", "subagent turn"])
def test_requests_have_the_shape_of_the_recordings(gateway, version, kind):
    shape = SHAPES[version][kind]
    lite = "x-openai-internal-codex-responses-lite" in shape["headers"]
    metadata = SUBAGENT if kind == "subagent turn" else TURN
    if version == "0.142.0":
        metadata = {key: value for key, value in metadata.items() if "turn_id" not in key}
    headers = {"x-codex-turn-metadata": json.dumps(metadata)}
    if kind == "subagent turn":
        headers["x-openai-subagent"] = "review"
    given = {key: value for key, value in BODY.items() if key in shape["body"]}
    sent_headers, body = sent(gateway, given, headers, lite)
    moved = {"instructions", "tools"} if lite else {"instructions"}

    assert list(sent_headers) == shape["headers"]
    # 0.169 has instructions for clients that bring or need them. For responses-lite they are moved (0.142: not).
    assert [key for key in body if key not in moved] == [key for key in shape["body"] if key not in moved]
    assert list(json.loads(sent_headers["x-codex-turn-metadata"])) == shape["turn_metadata"]
    assert sorted(body["client_metadata"]) == shape["client_metadata"]


def test_token_and_model_requests_have_the_shape_of_the_recordings(gateway, version, network):
    _services, provider, upstream = gateway
    network.post(TOKEN_URL, json={"access_token": token("second")})
    network.get(MODELS_URL, status=401)
    network.get(MODELS_URL, json={"models": []})
    provider.list_models(upstream)

    for kind, call in (("models", network.calls[0]), ("token", network.calls[1]), ("models", network.calls[2])):
        own = {"host", "content-length", "accept-encoding"}  # the last one is never sent, see HttpClient
        shape = SHAPES[version][kind]
        assert [name for name in call.request.headers if name not in own] == shape["headers"]
        if kind == "token":
            assert list(json.loads(call.request.body)) == shape["body"]
            assert json.loads(call.request.body).get("refresh_reason") in (None, "unauthorized_recovery")
        else:
            assert parse_qs(urlsplit(call.request.url).query) == {"client_version": [version]}


def test_the_default_profile_is_the_seeds_identity(gateway, version):
    headers, _ = sent(gateway, BODY, {})
    if version == "0.142.0":
        assert load_settings({}, plugin.SETTINGS).plugin["codex_profile"] == version
        assert headers["originator"] == "codex_cli_rs"
        assert headers["user-agent"] == "codex_cli_rs/0.142.0 (Mac OS 26.5.0; arm64) iTerm.app/3.6.10"
        assert headers["version"] == "0.142.0"
        assert headers["x-codex-beta-features"] == "remote_compaction_v2"


def test_the_prompt_cache_key_is_the_one_of_the_version(gateway, version):
    _, body = sent(gateway, BODY, {"session-id": "the-session", "thread-id": "the-thread"})
    assert body["prompt_cache_key"] == {"0.142.0": "the-thread", "0.169.0": "the-session"}[version]


def test_the_routing_hint_names_the_tier(tmp_path):
    known = {"model": "m", "service_tier": "priority"}
    headers = profile.load_profiles()["0.169.0"].responses_headers
    assert headers.render(known)["x-codex-routing-hint"] == "model=m;tier=priority"
    assert headers.render({"model": "m"})["x-codex-routing-hint"] == "model=m"


def test_an_unknown_profile_is_refused_with_the_list_of_them():
    with pytest.raises(SettingsError, match=r"'0\.1' is not one of 0\.142\.0, 0\.169\.0"):
        load_settings({"FLOWAY_CODEX_PROFILE": "0.1"}, plugin.SETTINGS)


def test_a_profile_with_a_mistake_is_refused():
    data = json.loads(json.dumps({name: [] for name in profile.Profile.__dataclass_fields__}))
    data |= {"version": "1.0.0", "values": {}, "user_agent": "{sesion_id}", "prompt_cache_key": "{thread_id}"}
    with pytest.raises(ValueError, match="sesion_id"):
        profile.parse_profile(data)
    del data["token_body"]
    with pytest.raises(ValueError, match="token_body"):
        profile.parse_profile(data)


def test_another_version_is_another_file(gateway, version):
    """Its headers, metadata and body keys need no code."""
    _services, provider, _ = gateway
    name = f"{version}.json"
    data = json.loads(resources.files("floway_codex").joinpath("profiles", name).read_text())
    data["version"] = "9.0.0"
    data["responses_headers"].insert(0, ["x-codex-new", "{thread_id}/{window_number}"])
    data["turn_metadata"][:0] = [["new", True], ["one", 1], ["more", {"a": []}]]
    data["body_keys"].insert(0, "input")
    provider._profile = profile.parse_profile(data)
    headers, body = sent(gateway, BODY, {"session-id": "s"})
    assert next(iter(headers.items())) == ("x-codex-new", "s/0") and headers["version"] == "9.0.0"
    assert headers["x-codex-turn-metadata"].startswith('{"new":true,"one":1,"more":{"a":[]},')
    assert next(iter(body)) == "input"


@pytest.mark.parametrize(
    "version, expected",
    [
        ("0.142.0", "0.142.0"),
        ("0.150.3", "0.142.0"),
        ("0.169.0", "0.169.0"),
        ("0.200.0-alpha.1", "0.169.0"),
        ("0.99.0", "the default"),
    ],
)
def test_a_codex_client_gets_the_profile_nearest_to_its_version(version, expected):
    default = profile.load_profiles()["0.169.0"]
    found = profile.closest_profile(version, default)
    assert found is default if expected == "the default" else found.version == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_the_turn_metadata_of_a_profile_is_complete(version):
    """To requests of clients that have none of their own, nothing is added."""
    names = set(profile.load_profiles()[version].turn_metadata.names)
    assert names >= {*request.ID_FIELDS, "request_kind", "compaction"}
