"""Every promise about the ids of a request, through a running gateway: what a client states, what the backend gets.

Rows are named as in the table of ``test_acceptance.py``.
"""

import http.client
import json
import re
import socket
from urllib.parse import urlsplit

import pytest
from floway_codex.simulator import compaction, function_call, reply, text

from . import gateways
from .gateways import ids, user

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
METADATA = "x-codex-turn-metadata"
ONE = "11111111-1111-4111-8111-111111111111"
STATED = {"session-id": "s", "thread-id": "t"}
CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.142.0 (Debian 12.0.0; x86_64) xterm-256color (codex_exec; 0.142.0)",
}


# ------------------------------------------------------------------------------------------------------------- stated
# row: what the client's headers say, what its client_metadata says, which ids come out
ROWS = {
    "TX-14 session-id": ({"session-id": "s"}, {}, {"session": "s", "thread": "s", "window": "s:0"}),
    "TX-15 session_id": ({"session_id": "s"}, {}, {"session": "s", "thread": "s", "client_request": "s"}),
    "TX-16 both": ({"session-id": "s", "session_id": "other"}, {}, {"session": "s", "thread": "s"}),
    "TX-16 both, the other way round": ({"session_id": "other", "session-id": "s"}, {}, {"session": "s"}),
    "TX-16 the first is malformed": ({"session-id": "x" * 201, "session_id": "s"}, {}, {"session": "s"}),
    "TX-16 upper case": ({"SESSION_ID": "s"}, {}, {"session": "s"}),
    "only session_id is read with underscores": (
        {**STATED, "thread_id": "other", "x_codex_window_id": "t:9", "x_client_request_id": "other"}, {},
        {"session": "s", "thread": "t", "window": "t:0", "client_request": "t"},
    ),
    "TX-19 header": ({"x-codex-installation-id": ONE}, {}, {"installation": ONE}),
    "TX-19 client_metadata": ({}, {"x-codex-installation-id": ONE}, {"installation": ONE}),
    "TX-20 another thread": (STATED, {}, {"session": "s", "thread": "t", "client_request": "t", "window": "t:0"}),
    "TX-20 another client request": (
        {**STATED, "x-client-request-id": "mine"}, {}, {"thread": "t", "client_request": "mine"}
    ),
    "TX-20 of a CLI": ({**STATED, **CLI, "x-client-request-id": "mine"}, {}, {"client_request": "mine"}),
    "TX-20 without a thread": ({"x-client-request-id": "mine"}, {}, {"client_request": "mine"}),
    "TX-20 malformed": ({**STATED, "x-client-request-id": "x" * 201}, {}, {"client_request": "t"}),
    "a window of the thread": ({**STATED, "x-codex-window-id": "t:3"}, {}, {"window": "t:3"}),
    "a window of another thread": ({**STATED, "x-codex-window-id": "s:3"}, {}, {"window": "t:0"}),
    "a window that is none": ({**STATED, "x-codex-window-id": "t:03"}, {}, {"window": "t:0"}),
    "a turn": (STATED, {"turn_id": "mine"}, {"turn": "mine"}),
    "TX-22 contradicted": ({**STATED, "x-codex-window-id": "t:1"}, {"session_id": "lie", "thread_id": "lie",
                           "x-codex-window-id": "t:2"}, {"session": "s", "thread": "t", "window": "t:1"}),
    "TX-10 an internal channel is none": ({**STATED, "x-floway-codex-session-id": "forged"}, {}, {"session": "s"}),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_is_stated_is_what_the_backend_gets(front, row):
    headers, client, expected = ROWS[row]
    request = front.sent(headers, client_metadata=client, instructions="Be brief.")
    found = ids(request)
    assert {name: found[name] for name in expected} == expected
    assert not [name for name, _ in request.headers if "_" in name or "floway" in name]


@pytest.mark.parametrize("order", [("session-id", "session_id"), ("session_id", "session-id")])
def test_both_spellings_on_the_wire(front, order):
    """TX-15, TX-16, byte by byte, each sent twice."""
    address = urlsplit(front.gateway.url)
    content = json.dumps({"model": gateways.MODEL, "input": "Hi"}).encode()
    spelled = [f"{name}: {name.replace('-', '+')}" for name in order for _ in range(2)]
    lines = ["POST /v1/responses HTTP/1.1", "host: gateway", f"authorization: Bearer {front.gateway.key}", *spelled]
    with socket.create_connection((address.hostname, address.port), 20) as client:
        client.sendall("\r\n".join([*lines, f"content-length: {len(content)}", "", ""]).encode() + content)
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        assert (answer.status, json.loads(answer.read())["status"]) == (200, "completed")
    (request,) = front.simulator.dispatches
    assert ids(request)["session"] == "session+id,session+id"


# Where an id may stand: the first of these places wins.
HEADER, CLIENT, HEADER_METADATA, BODY_METADATA = range(4)
CHAINS = {
    "session": [(HEADER, "session-id"), (HEADER, "session_id"), (CLIENT, "session_id"),
                (HEADER_METADATA, "session_id"), (BODY_METADATA, "session_id")],
    "thread": [(HEADER, "thread-id"), (CLIENT, "thread_id"), (HEADER_METADATA, "thread_id"),
               (BODY_METADATA, "thread_id")],
    "window": [(HEADER, "x-codex-window-id"), (CLIENT, "x-codex-window-id"), (HEADER_METADATA, "window_id"),
               (BODY_METADATA, "window_id")],
    "turn": [(CLIENT, "turn_id"), (HEADER_METADATA, "turn_id"), (BODY_METADATA, "turn_id")],
    "installation": [(HEADER, "x-codex-installation-id"), (CLIENT, "x-codex-installation-id"),
                     (HEADER_METADATA, "installation_id"), (BODY_METADATA, "installation_id")],
}  # fmt: skip
VALUES = {"window": "thread:{}", "installation": "{0}{0}{0}{0}{0}{0}{0}{0}-1111-4111-8111-111111111111"}


@pytest.mark.parametrize(
    "name, first", [(name, first) for name, chain in CHAINS.items() for first in range(len(chain))]
)
def test_an_earlier_place_wins(front, name, first):
    """All places but the first few hold a value; what cannot be an id in these gives way."""
    places = [{}, {}, {}, {}]
    for number, (place, key) in enumerate(CHAINS[name]):
        value = VALUES.get(name, "value-{}").format(number)
        places[place][key] = value if number >= first else "x" * 201
    headers, client, in_header, in_body = places
    if name == "window":
        headers["thread-id"] = "thread"
    if in_header:
        headers[METADATA] = json.dumps(in_header)
    client[METADATA] = json.dumps(in_body)
    found = ids(front.sent(headers, client_metadata=client))
    # Turn metadata is read as a whole: the header's, where it is any.
    assert found[name] == VALUES.get(name, "value-{}").format(first)


@pytest.mark.parametrize("value", ["", "   ", "x" * 201, "\xe9", "a\xffb"])
def test_what_is_malformed_is_ignored(front, value):
    names = "session-id session_id thread-id x-codex-window-id x-codex-installation-id x-client-request-id".split()
    wrong = dict.fromkeys((*names, METADATA), value)
    plain = ids(front.sent(instructions="Ignore."))
    found = ids(front.sent(wrong, instructions="Ignore.", client_metadata={"turn_id": value, "session_id": value}))
    assert {**found, "turn": ""} == {**plain, "turn": ""}


# -------------------------------------------------------------------------------------------------------- not stated
def test_what_nobody_states(front):
    """TX-17, TX-18, RS-9: without a beginning that a session could come from it is a new one each time."""
    one, two = ids(front.sent(input=[])), ids(front.sent(input=[]))
    assert one["session"] != two["session"] and all(UUID7.fullmatch(found["session"]) for found in (one, two))
    assert one["session"] == one["thread"] == one["client_request"] and one["window"] == f"{one['thread']}:0"
    [account] = gateways.status(front.gateway)
    assert one["installation"] == two["installation"] == account["installation_id"]


def test_two_requests_of_one_session(front):
    """TX-9"""
    one, two = (ids(front.sent({"session-id": "s"})) for _ in range(2))
    assert UUID7.fullmatch(one["turn"]) and UUID7.fullmatch(two["turn"]) and one["turn"] != two["turn"]
    assert {**one, "turn": ""} == {**two, "turn": ""} and one["window"] == "s:0"


def test_two_sessions(front):
    """TX-12"""
    one, two = (ids(front.sent({"session-id": session})) for session in ("one", "two"))
    assert (one["window"], two["window"]) == ("one:0", "two:0") and one["installation"] == two["installation"]


COMPACTION = {"type": "compaction", "encrypted_content": "gAAAA"}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
# row: beginnings of requests that have the same session
ALIKE = {
    "RS-5 it grows": [{"input": [user("a")]}, {"input": [user("a"), ANSWER, user("b")]}],
    "RS-8 a compaction": [{"input": [COMPACTION, user("a")]}, {"input": [COMPACTION, user("a"), ANSWER, user("b")]}],
    "X-16 text and list": [{"input": "a"}, {"input": [user("a")]}, {"input": [{"role": "user", "content": "a"}]},
                           {"input": [{"content": "a", "role": "user"}]}],
}  # fmt: skip
# row: beginnings of requests each of which has a session of its own
UNLIKE = {
    "RS-6 instructions": [{"input": "a", "instructions": said} for said in ("one", "two", None)],
    "RS-7 first item": [{"input": [user("a")]}, {"input": [user("b")]}, {"input": [COMPACTION]},
                        {"input": [{**COMPACTION, "encrypted_content": "gBBBB"}]}],
    "instructions and input are not mixed up": [
        {"instructions": first, "input": second} for first, second in (("ab", "c"), ("a", "bc"), ("a\x01b", "c"),
                                                                       ("a", "\x01bc"), ('a","b', "c"), ("abc", " "))
    ],
    "a fixed preamble": [{"input": [{**user("You are."), "role": "developer"}, user(said)]} for said in "ab"],
}  # fmt: skip


@pytest.mark.parametrize("row", ALIKE)
def test_what_has_the_same_session(front, row):
    assert len({ids(front.sent(store=False, **body))["session"] for body in ALIKE[row]}) == 1


@pytest.mark.parametrize("row", UNLIKE)
def test_what_has_a_session_of_its_own(front, row):
    assert len({ids(front.sent(store=False, **body))["session"] for body in UNLIKE[row]}) == len(UNLIKE[row])


# --------------------------------------------------------------------------------------------- continued responses
def test_a_stated_session_comes_before_that_of_the_response_that_is_continued(front):
    """RS-1"""
    first = front.ask({"session-id": "old", "thread-id": "old-thread"})
    kept = ids(front.sent(previous_response_id=first["id"]))
    assert (kept["session"], kept["thread"], kept["window"]) == ("old", "old-thread", "old-thread:0")
    changed = ids(front.sent({"session_id": "new"}, previous_response_id=first["id"]))
    assert (changed["session"], changed["thread"], changed["window"]) == ("new", "new", "new:0")


@pytest.mark.parametrize("stream, window", [(False, "failing:0"), (True, "failing:1")])
def test_only_an_answer_that_has_begun_counts_as_a_continuation(front, stream, window):
    """The request after it is a fork then, and gets a window of its own."""
    first = front.ask({"session-id": "failing"})
    front.simulator.script(reply(text(), fail={"code": "server_error", "message": "No."}))
    failed = front.send({"input": "Go on", "previous_response_id": first["id"], "stream": stream})
    assert failed.status >= 500 or failed.events()[-1]["type"] == "response.failed"
    assert ids(front.sent(previous_response_id=first["id"]))["window"] == window


def test_an_unstored_tool_loop_keeps_its_session_alone(front):
    asked = [user("Call f.")]
    front.simulator.script(reply(function_call("f", {})))
    answer = front.ask(input=asked, store=False)
    first = ids(front.simulator.dispatches[0])
    call = answer["output"][0]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "1"}
    second = ids(front.sent(input=[*asked, call, output], store=False))
    assert first["session"] == second["session"] and first["turn"] != second["turn"]


def test_a_compaction_stays_in_its_window_and_what_follows_is_in_the_next(front):
    """RS-4"""
    first = front.ask({"session-id": "long"})
    front.simulator.clear()
    front.simulator.script(reply(compaction()))
    done = front.ask(path="/v1/responses/compact", previous_response_id=first["id"])
    assert ids(front.simulator.dispatches[0])["window"] == "long:0"
    assert ids(front.sent(previous_response_id=done["id"]))["window"] == "long:1"


# ---------------------------------------------------------------------------------------------------- what goes along
def test_other_keys_of_the_metadata_go_along(front):
    """TX-21, TX-22, X-13: with their values, as ASCII in the header."""
    theirs = {"turn_started_at_unix_ms": 5, "thread_source": "user", "parent_thread_id": "p", "cwd": "/dépôt/ü",
              "turn_id": "mine", "branch": "\U0001f600"}  # fmt: skip
    request = front.sent({METADATA: json.dumps(theirs)}, client_metadata={"extra": "dépôt", "number": 3})
    metadata, client = json.loads(request.header(METADATA)), request.body["client_metadata"]
    assert {name: metadata[name] for name in theirs} == theirs and ids(request)["turn"] == "mine"
    assert request.header(METADATA).isascii() and client["extra"] == "dépôt" and "number" not in client


NOISE = {
    "openai-beta": "x", "x-forwarded-for": "10.0.0.1", "forwarded": "for=10.0.0.1", "cf-ray": "x", "version": "9.9.9",
    "x-real-ip": "10.0.0.1", "x-codex-beta-features": "other", "originator": "opencode", "x-stainless-os": "Linux",
    "user-agent": "OpenAI/Python 3.54.0", "idempotency-key": "x", METADATA: "{broken", "cookie": "a=b", "via": "1.1 p",
    "x-openai-internal-codex-responses-lite": "true", "true-client-ip": "10.0.0.1", "x-floway-session": "x",
}  # fmt: skip


@pytest.mark.parametrize("name", [*NOISE, "all of it"])
def test_noise_in_the_headers_stays_behind(front, name):
    """TX-8, HD-1 to HD-4: the backend gets the headers of the CLI and no other, with the values of the profile."""
    noise = NOISE if name == "all of it" else {name: NOISE[name]}
    varying = {"authorization", "content-length", METADATA}
    plain, noisy = front.sent({"session-id": "s"}), front.sent({**noise, "session-id": "s"})
    shown = [[pair for pair in request.headers if pair[0].lower() not in varying] for request in (plain, noisy)]
    assert shown[0] == shown[1] and ids(noisy)["session"] == "s"
    assert [pair[0] for pair in plain.headers] == [pair[0] for pair in noisy.headers]
    assert noisy.body["prompt_cache_key"] == ids(noisy)["thread"]


def test_a_cli_keeps_its_own_name(front):
    request = front.sent({**CLI, "x-codex-beta-features": "mine"})
    assert {name: request.header(name) for name in CLI} == CLI
    assert (request.header("version"), request.header("x-codex-beta-features")) == ("0.142.0", "mine")
    assert front.sent().header("originator") == "codex_exec"
