"""Where ids come from, and that they agree wherever they are written."""

import json
import uuid

import pytest
from floway_codex import plugin
from floway_codex.identity import claims
from floway_codex.identity.client import detect_client
from floway_codex.identity.resolution import IdentityInputs, resolve_identity
from floway_codex.identity.snapshot import StoredIdentity
from floway_codex.wire.profile import load_profiles

from .conftest import dispatch

METADATA = "x-codex-turn-metadata"
INSTALLATION = "1111aaaa-1111-4111-8111-111111111111"
ACCOUNTS = "22222222-2222-4222-8222-222222222222"
MS = 1_700_000_000_000
USER = {"type": "message", "role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "1"}


def forbidden(*_):
    raise AssertionError("this writes to the database")


def resolved(headers=None, body=None, input=(), **more):
    """The identity of a request; ``more`` as in ``IdentityInputs``."""
    inputs = {
        "claims": claims.read_claims(headers or {}, body or {}),
        "api_key_id": "key_1",
        "model": "gpt-5.5",
        "instructions": None,
        "input": input,
        "new_items": input,
        "stored": None,
        "claim_ordinal": forbidden,
        "claim_window": forbidden,
        "installation": ACCOUNTS,
        "now_ms": MS,
        **more,
    }
    return resolve_identity(IdentityInputs(**inputs))


def stored(session="s", thread="t", window=4, turn="kept-turn"):
    return StoredIdentity("resp_1", session, thread, window, turn, 5, thread, ACCOUNTS, f"{thread}:{window}", "", {})


# ----------------------------------------------------------------------------------------------------------- defaults
def test_defaults():
    """TX-17"""
    found = resolved()
    assert uuid.UUID(found.session).version == uuid.UUID(found.turn).version == 7
    assert found.session == found.thread == found.client_request != found.turn
    assert (found.window, found.window_number) == (f"{found.thread}:0", 0)
    assert (found.installation, found.started_ms) == (ACCOUNTS, MS)
    assert {found.root_turn, found.parent_turn, found.parent_thread, found.subagent} == {None}
    assert resolved().session != found.session  # RS-9


def test_the_thread_follows_a_stated_session_and_the_rest_follows_the_thread():
    found = resolved({"session-id": "s"})
    assert (found.thread, found.client_request, found.window) == ("s", "s", "s:0")
    found = resolved({"session-id": "s", "thread-id": "t"})
    assert (found.session, found.client_request, found.window) == ("s", "t", "t:0")


def test_a_client_request_id_is_stated_or_the_thread():
    """TX-20"""
    assert resolved({"thread-id": "t", "x-client-request-id": "theirs"}).client_request == "theirs"
    assert resolved({"thread-id": "t", "x-client-request-id": "malförmed"}).client_request == "t"


@pytest.mark.parametrize("stated", ["no-uuid", INSTALLATION.upper(), "11111111-1111-7111-8111-111111111111"])
def test_an_installation_is_a_uuid4(stated):
    """TX-18, TX-19"""
    assert resolved({"x-codex-installation-id": stated}).installation == ACCOUNTS
    assert resolved({"x-codex-installation-id": INSTALLATION}).installation == INSTALLATION


# ------------------------------------------------------------------------------------------------------------ session
def test_a_session_is_stated_or_kept_or_derived_or_new():
    given = {"input": [USER], "instructions": "Be brief."}
    everything = resolved({"session-id": "stated"}, stored=stored(), claim_ordinal=lambda: 1, **given)
    assert (everything.session, everything.rules["session"]) == ("stated", "header: session-id")
    continued = resolved(stored=stored(), claim_ordinal=lambda: 1, **given)
    assert (continued.session, continued.rules["session"]) == ("s", "previous response")
    derived = resolved(**given)
    assert derived.session == resolved(**given).session == resolved(**{**given, "input": [USER, CALL]}).session
    assert derived.rules["session"] == "beginning of the conversation"
    assert derived.session != resolved(api_key_id="key_2", **given).session
    assert derived.session != resolved(model="gpt-5.4", **given).session
    assert resolved(instructions="Be brief.").rules["session"] == "new"


def test_a_kept_thread_goes_with_its_session():
    assert resolved(stored=stored(), claim_ordinal=lambda: 1).thread == "t"
    other = resolved({"session-id": "other"}, stored=stored())
    assert (other.thread, other.window) == ("other", "other:0")


# ------------------------------------------------------------------------------------------------------------- window
@pytest.mark.parametrize("window", ["other:0", "t:01", "t:-1", "t:", "t", "t:1x"])
def test_a_window_of_another_thread_is_ignored(window):
    assert resolved({"thread-id": "t", "x-codex-window-id": window}).window == "t:0"


def test_a_client_that_counts_windows_is_believed():
    """Also one whose history is not stored here (F1.5), and nothing is written for it."""
    headers = {"thread-id": "t", "x-codex-window-id": "t:3"}
    assert resolved(headers).window == resolved(headers, stored=stored(window=9)).window == "t:3"


def test_the_first_continuation_stays_in_the_window_and_later_ones_get_their_own():
    """RS-3"""
    claimed = []

    def new_window(first_response, above):
        claimed.append((first_response, above))
        return 7

    first = resolved(stored=stored(), claim_ordinal=lambda: 1)
    assert (first.window, first.rules["window"]) == ("t:4", "previous response")
    fork = resolved(stored=stored(), claim_ordinal=lambda: 2, claim_window=new_window)
    assert (fork.window, fork.rules["window"]) == ("t:7", "fork of the previous response")
    assert claimed == [("resp_1", 4)]


def test_without_a_snapshot_the_input_tells_how_often_it_was_compacted():
    compaction = {"type": "compaction", "encrypted_content": "x"}
    assert resolved(input=[USER, USER, compaction, USER]).window_number == 1
    assert resolved(input=[compaction, USER]).window_number == 0  # a session of its own


# --------------------------------------------------------------------------------------------------------------- turn
def test_a_turn_goes_on_where_only_tool_calls_are_answered():
    more = {"stored": stored(), "claim_ordinal": lambda: 1, "new_items": [OUTPUT]}
    going_on = resolved(input=[USER, CALL, OUTPUT], **more)
    assert (going_on.turn, going_on.started_ms) == ("kept-turn", 5)
    for items in ([USER, CALL, OUTPUT, USER], [USER]):
        found = resolved(input=items, **{**more, "new_items": items[-1:]})
        assert found.turn != "kept-turn" and found.started_ms == MS
    assert resolved(body={"client_metadata": {"turn_id": "mine"}}, input=[USER, CALL, OUTPUT], **more).turn == "mine"
    assert resolved(input=[USER, CALL, OUTPUT]).rules["turn"] == "new"


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
    assert (first.headers, first.body) == (second.headers, second.body)  # RS-2, TX-11


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
    theirs = {
        "turn_id": "in-metadata",
        "thread_id": "lie",
        "sandbox": "seccomp",
        "note": {"dépôt": "ü"},
        "parent_thread_id": 5,
    }
    client = {"turn_id": "mine", "session_id": "lie", "extra": "kept", "number": 3, METADATA: json.dumps(theirs)}
    ctx = prepared({"model": "m", "input": "x", "client_metadata": client}, {"session-id": "s", "thread-id": "t"})
    agree(ctx)
    headers, client, metadata = surfaces(ctx)
    assert (headers["session-id"], headers["thread-id"], client["turn_id"]) == ("s", "t", "mine")
    assert metadata["sandbox"] == "seccomp" and metadata["note"] == {"dépôt": "ü"} and list(metadata)[-1] == "note"
    assert metadata["request_kind"] == "turn" and "parent_thread_id" not in metadata
    assert client["extra"] == "kept" and "number" not in client
    assert headers[METADATA].isascii()


def test_the_installation_is_the_accounts_unless_stated(prepared, provider, services, upstream):
    from floway_codex.account import accounts

    assert surfaces(prepared())[2]["installation_id"] == accounts.find_account(services, upstream.id).installation_id
    ctx = prepared({"model": "m", "input": "x", "client_metadata": {"x-codex-installation-id": INSTALLATION}})
    assert surfaces(ctx)[2]["installation_id"] == INSTALLATION


def test_noise_in_the_clients_headers_stays_behind(prepared):
    noise = {
        "user-agent": "OpenAI/Python 3.54.0",
        "openai-beta": "x",
        "x-forwarded-for": "10.0.0.1",
        "cf-ray": "x",
        "x-stainless-os": "Linux",
        "version": "9.9.9",
        "x-codex-beta-features": "other",
        "originator": "opencode",
        "x-openai-internal-codex-responses-lite": "true",
        "idempotency-key": "x",
    }
    assert set(prepared(headers=noise).headers) == set(prepared().headers)
    assert prepared(headers=noise).headers["originator"] == "codex_exec"
    assert prepared(headers=noise).headers["version"] == list(load_profiles())[-1]


CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color (codex_exec; 0.169.0)",
    "x-codex-beta-features": "remote_compaction_v2",
    "x-openai-internal-codex-responses-lite": "true",
    "session-id": "01a201f3-afbc-79d3-9a1e-505a2692afa0",
}


def test_a_codex_cli_goes_on_under_its_own_name(prepared):
    theirs = {
        "installation_id": INSTALLATION,
        "session_id": "old",
        "agent_name": "/root",
        "turn_id": "t1",
        "window_number": 7,
        "request_kind": "compaction",
        "compaction": {"trigger": "auto"},
    }
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


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"originator": "codex_exec"},
        {"originator": "codex_exec", "user-agent": "curl/8.0.0"},
        {"originator": "codex_exec", "user-agent": "codex_exec/latest"},
        {"originator": "opencode", "user-agent": "opencode/1.2.3"},
        {"user-agent": "codex_exec/0.169.0"},
    ],
)
def test_what_only_half_looks_like_a_codex_cli_is_none(headers):
    assert detect_client(headers, {}) is None
