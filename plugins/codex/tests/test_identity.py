"""Where ids come from, and that they agree wherever they are written."""

import json
import uuid

import pytest
from floway_codex import plugin
from floway_codex.identity import SOURCES, codex_client, context_window_id, resolve, well_formed

from .conftest import dispatch

METADATA = "x-codex-turn-metadata"
INSTALLATION = "11111111-1111-4111-8111-111111111111"
DEFAULTS = {"root_turn", "parent_turn", "parent_thread", "subagent"}


def resolved(headers=None, body=None):
    return resolve(headers or {}, body or {}, INSTALLATION, 1_700_000_000_000)


def stated(place, key, value):
    """``(headers, body)`` with one id in one place; turn metadata in the header."""
    if place == "header":
        return {key: value}, {}
    if place == "client_metadata":
        return {}, {"client_metadata": {key: value}}
    return {METADATA: json.dumps({key: value})}, {}


CASES = [(name, place, key) for name, sources in SOURCES.items() for place, key in sources]


@pytest.mark.parametrize("name, place, key", CASES)
def test_an_id_is_found_in_each_of_its_places(name, place, key):
    value = "the-thread:3" if name == "window" else "stated"
    headers, body = stated(place, key, value)
    if name == "window":
        headers = {**headers, "thread-id": "the-thread"}
    assert getattr(resolved(headers, body), name) == value


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "window"])
def test_an_earlier_place_wins(name):
    headers, client, metadata = {}, {}, {}
    places = {"header": headers, "client_metadata": client, "turn_metadata": metadata}
    for number, (place, key) in enumerate(SOURCES[name]):
        places[place][key] = f"value-{number}"
    headers[METADATA] = json.dumps(metadata)
    for number, (place, key) in enumerate(SOURCES[name]):
        assert getattr(resolved(headers, {"client_metadata": client}), name) == f"value-{number}"
        del places[place][key]
        headers[METADATA] = json.dumps(metadata)


def test_turn_metadata_in_the_body_counts_when_the_header_has_none():
    body = {"client_metadata": {METADATA: json.dumps({"session_id": "in-body"})}}
    assert resolved({}, body).session == "in-body"
    assert resolved({METADATA: "{broken"}, body).session == "in-body"
    assert resolved({METADATA: json.dumps({"session_id": "in-header"})}, body).session == "in-header"


def test_defaults():
    found = resolved()
    assert uuid.UUID(found.session).version == uuid.UUID(found.turn).version == 7
    assert found.session == found.thread == found.client_request != found.turn
    assert found.window == f"{found.thread}:0"
    assert found.installation == INSTALLATION
    assert {getattr(found, name) for name in DEFAULTS} == {None}


def test_the_thread_follows_a_stated_session_and_the_rest_follows_the_thread():
    found = resolved({"session-id": "s"})
    assert (found.thread, found.client_request, found.window) == ("s", "s", "s:0")
    found = resolved({"session-id": "s", "thread-id": "t"})
    assert (found.session, found.client_request, found.window) == ("s", "t", "t:0")


@pytest.mark.parametrize("value", ["", "   ", "x" * 201, "a\nb", "a\x7fb", "é", 7, None, ["a"], {"a": 1}])
def test_malformed_ids_are_ignored(value):
    assert well_formed(value) is None
    for place, key in SOURCES["session"]:
        if place == "header" and not isinstance(value, str):
            continue
        assert uuid.UUID(resolved(*stated(place, key, value)).session).version == 7


@pytest.mark.parametrize("window", ["other:0", "t:01", "t:-1", "t:", "t", "t:1x"])
def test_a_window_of_another_thread_is_ignored(window):
    assert resolved({"thread-id": "t", "x-codex-window-id": window}).window == "t:0"


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", "NaN", '{"a": NaN}', "[" * 3000 + "]" * 3000])
def test_turn_metadata_that_is_no_json_object_is_ignored(text):
    assert resolved({METADATA: text}).turn_metadata == {}


def test_client_metadata_may_be_anything():
    for client in (None, "x", 3, ["session_id"], {"session_id": 3, "other": {"a": 1}, "kept": "yes"}):
        found = resolved({}, {"client_metadata": client})
        assert found.client_metadata in ({}, {"kept": "yes"})


def test_a_context_window_id_is_a_uuid7_as_old_as_the_thread_and_stays_with_the_window():
    thread = "01a201f3-afbc-79d3-9a1e-505a2692afa0"
    first, second = context_window_id(f"{thread}:0", thread), context_window_id(f"{thread}:1", thread)
    assert uuid.UUID(first).version == 7 and uuid.UUID(first).variant == uuid.RFC_4122
    assert first[:13] == thread[:13] and first != second == context_window_id(f"{thread}:1", thread)
    assert context_window_id("t:0", "t") is None


# --------------------------------------------------------------------------------------------- through the two hooks
def surfaces(ctx):
    return ctx.headers, ctx.body["client_metadata"], json.loads(ctx.headers[METADATA])


def agree(ctx):
    headers, client, metadata = surfaces(ctx)
    assert headers["session-id"] == client["session_id"] == metadata["session_id"]
    assert headers["thread-id"] == client["thread_id"] == metadata["thread_id"]
    assert headers["x-codex-window-id"] == client["x-codex-window-id"] == metadata["window_id"]
    assert client["turn_id"] == metadata["turn_id"]
    assert client["x-codex-installation-id"] == metadata["installation_id"]
    assert client[METADATA] == headers[METADATA]
    assert all(isinstance(value, str) for value in client.values())


def test_the_ids_agree_and_stay_over_the_dispatches_of_an_attempt(attempt):
    started = attempt()
    plugin.on_attempt_start(started)
    first, second = dispatch(started, 1), dispatch(started, 2)
    agree(first)
    assert (first.headers, first.body) == (second.headers, second.body)


def test_two_attempts_in_one_session_share_all_but_the_turn(prepared):
    one, two = (prepared(headers={"session-id": "s"}) for _ in range(2))
    for ctx in (one, two):
        agree(ctx)
    assert surfaces(one)[2]["turn_id"] != surfaces(two)[2]["turn_id"]
    for name in ("session_id", "thread_id", "window_id", "installation_id"):
        assert surfaces(one)[2][name] == surfaces(two)[2][name]


def test_session_id_with_an_underscore_is_read_but_never_sent(prepared):
    ctx = prepared(headers={"session_id": "s"})
    assert ctx.headers["session-id"] == "s" and "session_id" not in ctx.headers
    assert prepared(headers={"session_id": "s", "session-id": "t"}).headers["session-id"] == "t"


def test_extra_metadata_survives_but_cannot_contradict(prepared):
    theirs = {"turn_id": "in-metadata", "thread_id": "lie", "sandbox": "seccomp", "note": {"dépôt": "ü"},
              "parent_thread_id": 5}
    client = {"turn_id": "mine", "session_id": "lie", "extra": "kept", "number": 3, METADATA: json.dumps(theirs)}
    ctx = prepared(
        {"model": "m", "input": "x", "client_metadata": client}, {"session-id": "s", "thread-id": "t"}
    )
    agree(ctx)
    headers, client, metadata = surfaces(ctx)
    assert (headers["session-id"], headers["thread-id"], client["turn_id"]) == ("s", "t", "mine")
    assert metadata["sandbox"] == "seccomp" and metadata["note"] == {"dépôt": "ü"} and list(metadata)[-1] == "note"
    assert metadata["request_kind"] == "turn" and "parent_thread_id" not in metadata
    assert client["extra"] == "kept" and "number" not in client
    assert headers[METADATA].isascii()


def test_the_installation_is_the_accounts_unless_stated(prepared, provider, services, upstream):
    from floway_codex import accounts

    assert surfaces(prepared())[2]["installation_id"] == accounts.find(services, upstream.id).installation_id
    ctx = prepared({"model": "m", "input": "x", "client_metadata": {"x-codex-installation-id": INSTALLATION}})
    assert surfaces(ctx)[2]["installation_id"] == INSTALLATION


def test_noise_in_the_clients_headers_stays_behind(prepared):
    noise = {"user-agent": "OpenAI/Python 3.54.0", "openai-beta": "x", "x-forwarded-for": "10.0.0.1", "cf-ray": "x",
             "x-stainless-os": "Linux", "version": "9.9.9", "x-codex-beta-features": "other", "originator": "opencode",
             "x-openai-internal-codex-responses-lite": "true", "idempotency-key": "x"}
    assert set(prepared(headers=noise).headers) == set(prepared().headers)
    assert prepared(headers=noise).headers["originator"] == "codex_cli_rs"
    assert prepared(headers=noise).headers["version"] == "0.142.0"


CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color (codex_exec; 0.169.0)",
    "x-codex-beta-features": "remote_compaction_v2",
    "x-openai-internal-codex-responses-lite": "true",
    "session-id": "01a201f3-afbc-79d3-9a1e-505a2692afa0",
}


def test_a_codex_cli_goes_on_under_its_own_name(prepared):
    theirs = {"installation_id": INSTALLATION, "session_id": "old", "agent_name": "/root", "turn_id": "t1",
              "window_number": 7, "request_kind": "compaction", "compaction": {"trigger": "auto"}}
    ctx = prepared({"model": "gpt-6.1-sol", "input": []}, {**CLI, METADATA: json.dumps(theirs)})
    agree(ctx)
    headers, client, metadata = surfaces(ctx)
    assert headers["originator"] == "codex_exec" and headers["user-agent"] == CLI["user-agent"]
    assert headers["version"] == "0.169.0"  # the CLI does not send it to a gateway
    assert headers["x-openai-internal-codex-responses-lite"] == "true"
    assert headers["x-codex-routing-hint"] == "model=gpt-6.1-sol"
    assert "instructions" not in ctx.body
    # Its metadata is complete, so it keeps its keys and their order; only ids and what follows from them are set right.
    assert list(metadata) == [*theirs, "thread_id", "window_id"]
    assert metadata["request_kind"] == "compaction" and metadata["window_number"] == 0
    assert client["guardian_credits_requested"] == "true"


def test_a_codex_cli_without_beta_features_gets_none(prepared):
    bare = {key: value for key, value in CLI.items() if key != "x-codex-beta-features"}
    assert "x-codex-beta-features" not in prepared(headers=bare).headers


@pytest.mark.parametrize("headers", [
    {"originator": "codex_exec"},
    {"originator": "codex_exec", "user-agent": "curl/8.0.0"},
    {"originator": "codex_exec", "user-agent": "codex_exec/latest"},
    {"originator": "opencode", "user-agent": "opencode/1.2.3"},
    {"user-agent": "codex_exec/0.169.0"},
])
def test_what_only_half_looks_like_a_codex_cli_is_none(headers):
    assert codex_client(headers) is None
