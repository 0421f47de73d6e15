"""Odd answers of upstreams are relayed where possible, and never cause a fault of the gateway."""

import gzip
import json

import pytest

from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.testing import (
    ApiClient,
    Reply,
    RunningGateway,
    Step,
    event,
    message_item,
    message_stream,
    write_plugin,
)
from floway_core.testing.events import DONE, function_call_item, parse, response

from ..support.raw_upstream import RawUpstream, head
from ..support.stored_upstreams import add_upstreams

JSON = [("content-type", "application/json")]

HASTY = '''"""Makes the gateway wait less for the rest of a refusal than a test should take."""

import floway_core.engine.attempt

floway_core.engine.attempt.ERROR_BODY_TIMEOUT_SECONDS = 0.3
'''


@pytest.fixture
def no_fault(gateway):
    """Fails if the gateway wrote a traceback."""
    before = len(gateway.log)
    yield
    assert "Traceback" not in gateway.log[before:]


# ----------------------------------------------------------------------------------------------------------- refusals
@pytest.fixture(scope="module")
def two_accounts(plugin_folder, journal_file, tmp_path_factory):
    """A gateway with two accounts of the same provider."""
    folder, environ = tmp_path_factory.mktemp("hasty"), {"TEST_JOURNAL": str(journal_file)}
    write_plugin(folder, "hasty", HASTY)
    with RunningGateway({"idle_timeout": "0.6"}, plugin_folders=[plugin_folder, folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire", second="wire")
        yield gateway


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("status", "told"), [(403, 502), (429, 429)])
@pytest.mark.parametrize("part", [b"", b"{", b"Slow down."])
def test_a_refusal_whose_body_never_ends_is_that_refusal(call, two_accounts, fake_upstream, status, told, part, stream):
    headers = [*JSON, ("content-length", "100"), ("retry-after", "7")]
    fake_upstream.script(Reply([part, Step.HOLD], status, headers, "length"), Reply(message_stream()))
    answer = call(two_accounts).create(stream=stream)
    assert answer.status == told
    assert told == 502 or answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["code"] == ("upstream_account_refused" if told == 502 else "upstream_refused")
    assert len(fake_upstream.requests) == 1  # a limit is not got around
    assert fake_upstream.requests[0].peer_gone.wait(60)


# ------------------------------------------------------------------------------------------------------------ its ids
@pytest.mark.parametrize("id", ["", "response", "id", "output", "completed", "model-1", "msg_1", "resp_123456789"])
@pytest.mark.parametrize("stream", [True, False])
def test_of_all_that_looks_like_the_id_only_the_id_is_rewritten(ask, fake_upstream, id, stream):
    envelope = {"instructions": "", "user": id, "metadata": {id: id}, "previous_response_id": None}
    sent = message_stream(id, id=id, pieces=1, **envelope)
    fake_upstream.script(Reply(sent))
    answer = ask.create(stream=stream, store=False)
    got = answer.events() if stream else [{"response": answer.json()}]
    own = got[0]["response"]["id"]
    assert own.startswith("resp_") and own != id
    expected = parse(b"".join(sent)) if stream else [{"response": parse(sent[-1])[0]["response"]}]
    for told in expected:
        if "response" in told:
            told["response"]["id"] = own
    assert got == expected


@pytest.mark.parametrize("spelling", [',"id":"ID"', ', "id" : "ID"'])
@pytest.mark.parametrize("id", ["", "response", "resp_123456789"])
def test_an_id_is_found_however_it_is_spelled(spelling, id):
    told_id = spelling.replace("ID", id)
    data = f'{{"type":"response.completed","response":{{"output":[],"user":"{id}"{told_id}}}}}'
    events = ResponseAccumulator({"id": "resp_own"})
    assert events.add_events(f"event: response.completed\ndata: {data}\n\n".encode()) == b""
    response = parse(events.terminal_event)[0]["response"]
    assert (response["id"], response["user"], response["output"]) == ("resp_own", id, [])


# ---------------------------------------------------------------------------------------------------------- its shape
def with_content(content):
    return {"output": [{"type": "message", "id": "msg_1", "role": "assistant", "content": content}]}


ODD = {
    "a text for an item": {"output": ["x"]},
    "nothing for an item": {"output": [None]},
    "a list for an item": {"output": [[]]},
    "a number for a list": {"output": 5},
    "an object for a list": {"output": {"a": 1}},
    "a text for a part": with_content(["x"]),
    "nothing for a part": with_content([None]),
    "a text for parts": with_content("x"),
    "a number for parts": with_content(5),
    "a list for a type": {"output": [{"type": ["message"]}]},
    "a list for the type of a part": with_content([{"type": ["output_text"]}]),
    "a number for a text": with_content([{"type": "output_text", "text": 5}]),
    "a list for a role": {"output": [{"type": "message", "role": ["assistant"], "content": []}]},
    "a number for a blob": {"output": [{"type": "reasoning", "encrypted_content": 5, "summary": "x"}]},
    "a list for arguments": {"output": [function_call_item("f", "") | {"arguments": ["x"]}]},
    "a list for a status": {"output": [], "status": ["completed"]},
    "a text for the usage": {"output": [], "usage": "much"},
    "a list for the id": {"output": [], "id": ["x"]},
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("store", [True, False])
def test_an_odd_response_in_one_piece_is_no_fault(ask, fake_upstream, no_fault, odd, stream, store):
    fake_upstream.script(Reply([json.dumps({"id": "resp_1", **ODD[odd]}).encode()], headers=JSON, framing="length"))
    is_answered(ask.create(stream=stream, store=store), stream)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("store", [True, False])
def test_an_odd_response_in_events_is_no_fault(ask, fake_upstream, no_fault, odd, stream, store):
    told = ODD[odd].get("output")
    items = told if isinstance(told, list) else [told]
    closed = [event("response.output_item.done", output_index=place, item=item) for place, item in enumerate(items)]
    end = event("response.completed", response=response("completed") | ODD[odd])
    for chunks in ([end], [*closed, event("response.completed", response=response("completed"))]):
        fake_upstream.script(Reply(chunks))
        is_answered(ask.create(stream=stream, store=store), stream)


def is_answered(answer, stream):
    """Assert that ``answer`` is a response or tells what is wrong with the upstream."""
    body = answer.body
    assert answer.status in (200, 502), body
    assert b"internal_error" not in body and b"The gateway failed" not in body
    if stream and answer.status == 200:
        assert body.endswith(DONE) or parse(body)[-1]["type"] == "response.failed"
    else:
        assert isinstance(json.loads(body), dict)


# -------------------------------------------------------------------------------------------------------- its headers
HEADERS = {
    "a control character": ("x-odd: a\x01b", None),
    "a delete": ("x-odd: a\x7fb", None),
    "a zero": ("x-odd: a\0b", None),
    "an escape": ("x-odd: \x1b[31m", None),
    "a fold": ("x-odd: a\r\n b", "a b"),
    "a tab": ("x-odd: a\tb", "a\tb"),
    "latin-1": ("x-odd: gr\xfc\xdfe", "gr\xfc\xdfe"),
    "nothing": ("x-odd:", ""),
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("kind", ["stream", "whole", "refusal"])
def test_an_odd_header_does_not_spoil_the_answer(ask, no_fault, header, kind):
    line, passed = HEADERS[header]
    content = (
        b'{"error":{"message":"No.","type":"t","param":null,"code":null}}'
        if kind == "refusal"
        else b"".join(message_stream())
    )
    lines = [f"content-type: {JSON[0][1] if kind == 'refusal' else 'text/event-stream'}"]
    lines += ["x-first: 1", line, "x-last: 2", f"content-length: {len(content)}"]

    def play(talk):
        talk.request()
        talk.send(head(*lines, status="400 Bad Request" if kind == "refusal" else "200 OK") + content)
        talk.hold()

    with RawUpstream(play) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.create(stream=kind == "stream")
        assert answer.status == (400 if kind == "refusal" else 200)
        assert (answer.headers["x-first"], answer.headers["x-last"]) == ("1", "2")
        odd = [(name, value) for name, value in answer.headers.items() if "odd" in name]
        assert odd == ([] if passed is None else [("x-odd", passed)])
        assert (content if kind == "refusal" else message_item("Hello there.")["id"].encode()) in answer.body


# -------------------------------------------------------------------------------------------------------- its framing
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_whole_stands_whatever_follows(gateway, stream, pause):
    """Also if what follows is no chunk, and arrives together with its end."""
    body = b"".join(message_stream("Whole."))
    chunk, garbage = b"%X\r\n%b\r\n" % (len(body), body), b"no chunk\r\n"

    def play(talk):
        talk.request()
        talk.send(head("content-type: text/event-stream", "transfer-encoding: chunked"))
        if pause:
            talk.send(chunk)
            talk.wait()
            talk.send(garbage)
        else:
            talk.send(chunk + garbage)
        talk.hold()

    with RawUpstream(play) as upstream:
        ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": upstream.url})
        answer = ask.create(stream=stream)
        told = answer.events()[-1]["response"] if stream else answer.json()
        assert told["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_texts_that_alternate_are_kept_apart(ask, fake_upstream, stream):
    """For instance the arguments of parallel calls. Many of them may arrive at once, if they were compressed."""
    calls = [function_call_item("f", "", id=f"fc_{index}", call_id=f"call_{index}") for index in range(2)]
    stream_of = [event("response.created", response=response())]
    stream_of += [event("response.output_item.added", output_index=n, item=call) for n, call in enumerate(calls)]
    stream_of += [
        event(
            "response.function_call_arguments.delta",
            output_index=number % 2,
            item_id=f"fc_{number % 2}",
            delta="ab",
            sequence_number=number,
        )
        for number in range(2_000)
    ]
    stream_of.append(event("response.completed", response=response("completed", output=[])))
    content = gzip.compress(b"".join(stream_of))
    fake_upstream.script(Reply([content], headers=[("content-encoding", "gzip")], framing="length"))
    answer = ask.create(stream=stream)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert [item["arguments"] for item in told["output"]] == ["ab" * 1_000] * 2
