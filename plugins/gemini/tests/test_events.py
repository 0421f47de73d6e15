"""Streams and whole answers say the same, and what each of them looks like."""

import json

import pytest
from floway_gemini import thoughts
from floway_gemini.client.answers import to_answer
from floway_gemini.client.events import AnswerEvents
from floway_gemini.client.texts import Unwrapper
from floway_gemini.client.view import ClientView

from floway_core.errors import GatewayError
from floway_core.protocol.synthesis import synthesize_events
from floway_core.testing import events
from floway_core.testing.events import (
    calls_stream,
    event,
    function_call_item,
    items_stream,
    message_item,
    message_stream,
)

VIEW = ClientView("m", "r1", shows_thoughts=True)
SUMMARY = [{"type": "summary_text", "text": "**One** 1."}, {"type": "summary_text", "text": "**Two** 2."}]
REASONING = {"type": "reasoning", "id": "rs_1", "summary": SUMMARY, "encrypted_content": "blob"}
CITED = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 6, "end_index": 9}
SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://b.example/x"}]},
}


def cited_item(text, *annotations):
    item = message_item(text)
    item["content"][0]["annotations"] = list(annotations)
    return item


def pieces(stream):
    return events.parse(stream)


def translate(chunks, view=VIEW, size=None):
    """The pieces that a stream becomes."""
    translator = AnswerEvents(view)
    return pieces(b"".join(translator.feed(chunk) for chunk in chunks) + translator.end())


def joined(found):
    """The parts of all pieces, texts of the same kind joined, and the last piece without its content."""
    parts = []
    for piece in found:
        for part in piece["candidates"][0]["content"]["parts"]:
            last = parts[-1] if parts else {}
            if "text" in part and "text" in last and not part.get("thought") and not last.get("thought"):
                last["text"] += part["text"]
            else:
                parts.append(dict(part))
    end = json.loads(json.dumps(found[-1]))
    del end["candidates"][0]["content"]
    return parts, end


RESPONSES = {
    "text": [message_item("Hello there.")],
    "thoughts": [REASONING, message_item("Hello.")],
    "a call": [REASONING, function_call_item("f", '{"a": [1]}')],
    "parallel calls": [
        REASONING,
        function_call_item("f", "{}"),
        function_call_item("g", "{}", id="fc_2", call_id="c2"),
    ],
    "a search": [SEARCH, cited_item("Grüße Ulm 🎉.", CITED)],
    "nothing but thoughts": [REASONING],
    "nothing": [],
    "an image": [{"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="}],
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("deltas", [True, False])
def test_a_stream_adds_up_to_the_whole_answer(name, deltas):
    response = events.response("completed", output=RESPONSES[name], usage=events.USAGE)
    chunks = list(synthesize_events(response)) if deltas else items_stream(RESPONSES[name], usage=events.USAGE)
    streamed, whole = translate(chunks), [to_answer(response, VIEW)]
    parts, end = joined(streamed)
    expected, whole_end = joined(whole)
    if parts and parts[-1] == {"text": ""} and len(parts) > len(expected):
        parts.pop()  # the last piece of a stream has a text in any case
    assert (parts, end) == (expected, whole_end)


def test_a_delta_is_one_piece():
    found = translate(message_stream("One two three.", pieces=3, usage=events.USAGE))
    texts = [piece["candidates"][0]["content"]["parts"] for piece in found]
    assert texts == [[{"text": "One "}], [{"text": "two t"}], [{"text": "hree."}], [{"text": ""}]]
    assert all("finishReason" not in piece["candidates"][0] and "usageMetadata" not in piece for piece in found[:-1])
    assert found[-1] == {
        "candidates": [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 7,
            "candidatesTokenCount": 5,
            "totalTokenCount": 12,
            "cachedContentTokenCount": 3,
        },
        "modelVersion": "m",
        "responseId": "r1",
    }


def test_the_first_part_behind_the_reasoning_carries_it():
    chunks = list(synthesize_events(events.response("completed", output=RESPONSES["thoughts"])))
    parts = [part for piece in translate(chunks) for part in piece["candidates"][0]["content"]["parts"]]
    assert parts[:2] == [{"text": text["text"], "thought": True} for text in SUMMARY], "each part of a summary is whole"
    assert thoughts.decode_items(parts[2]["thoughtSignature"]) == [REASONING]
    hidden = translate(chunks, ClientView("m", "r1"))
    assert [
        part for piece in hidden for part in piece["candidates"][0]["content"]["parts"] if part.get("thought")
    ] == []


def test_calls_that_are_open_at_once_come_whole():
    calls = [function_call_item(name, '{"a": 1}', id=f"fc_{name}", call_id=name) for name in "fg"]
    parts = [part for piece in translate(calls_stream(calls)) for part in piece["candidates"][0]["content"]["parts"]]
    assert [part["functionCall"] for part in parts[:-1]] == [{"id": n, "name": n, "args": {"a": 1}} for n in "fg"]


def test_names_of_functions_are_the_clients():
    view = ClientView("m", "r1", names={"a_b_1": "a.b"})
    (part,) = to_answer({"output": [function_call_item("a_b_1", "{}")]}, view)["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["name"] == "a.b"


def test_citations_count_bytes():
    metadata = to_answer({"output": RESPONSES["a search"]}, VIEW)["candidates"][0]["groundingMetadata"]
    assert metadata == {
        "webSearchQueries": ["q"],
        "groundingChunks": [
            {"web": {"uri": "https://b.example/x", "title": "b.example"}},
            {"web": {"uri": "https://a.example/", "title": "A"}},
        ],
        "groundingSupports": [
            {"segment": {"startIndex": 8, "endIndex": 11, "text": "Ulm"}, "groundingChunkIndices": [1]}
        ],
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "STOP"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "MAX_TOKENS"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "SAFETY"),
        ({"status": "incomplete"}, "OTHER"),
        ({"output": [function_call_item("f", '{"a": ')]}, "MALFORMED_FUNCTION_CALL"),
        ({"output": [{**message_item(""), "content": [{"type": "refusal", "refusal": "No."}]}]}, "SAFETY"),
    ],
)
def test_why_it_stopped(fields, reason):
    response = events.response(**{"status": "completed", "output": [message_item("x")], **fields})
    answer = to_answer(response, VIEW)
    assert answer["candidates"][0]["finishReason"] == reason
    assert "functionCall" not in json.dumps(answer)
    assert translate(list(synthesize_events(response)))[-1]["candidates"][0]["finishReason"] == reason


def test_thoughts_that_are_no_summary_arrive_as_they_are_written():
    sent = [
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="Hm"),
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="."),
        event(
            "response.output_item.done",
            output_index=0,
            item={"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}], "summary": []},
        ),
    ]
    parts = [part for piece in translate(sent) for part in piece["candidates"][0]["content"]["parts"]]
    assert [part["text"] for part in parts] == ["Hm", "."]


@pytest.mark.parametrize("pieces", [1, 3, 14])
def test_stop_sequences(pieces):
    view = ClientView("m", "r1", stop_sequences=["STOP"])
    found = translate(message_stream("Hello STOP there", pieces=pieces), view)
    assert joined(found)[0] == [{"text": "Hello "}] and found[-1]["candidates"][0]["finishReason"] == "STOP"
    whole = to_answer({"output": [message_item("Hello STOP there")]}, view)
    assert whole["candidates"][0]["content"]["parts"] == [{"text": "Hello "}]
    assert joined(translate(message_stream("Hello ST", pieces=pieces), view))[0] == [{"text": "Hello ST"}]


@pytest.mark.parametrize(
    ("wrapped", "value"),
    [
        ('{"value": [1, {"a": "}"}]}', '[1, {"a": "}"}]'),
        (' {"value":{"a":{}}} \n', '{"a":{}}'),
        ('{"value": "a}"\n}', '"a}"'),
        ('{"value":5}', "5"),
        ("[1, 2]", "[1, 2]"),
        ('[{"a": 1}]', '[{"a": 1}]'),
        ("", ""),
    ],
)
def test_a_value_is_taken_out_of_its_object(wrapped, value):
    for size in (1, 2, 5, 100):
        unwrapper = Unwrapper()
        text = "".join(unwrapper.feed(wrapped[at : at + size]) for at in range(0, len(wrapped), size)) + unwrapper.end()
        assert text == value


def test_line_separators_are_escaped():
    """Readers of lines take them for ends of lines."""
    stream = AnswerEvents(VIEW).feed(b"".join(message_stream("a\u2028b\u2029c\u2030", pieces=1)))
    assert "\u2028" not in stream.decode() and "\u2029" not in stream.decode() and "\u2030" in stream.decode()
    assert pieces(stream)[0]["candidates"][0]["content"]["parts"] == [{"text": "a\u2028b\u2029c\u2030"}]


@pytest.mark.parametrize(("is_array", "is_google_sdk"), [(False, False), (False, True), (True, True)])
def test_failures(is_array, is_google_sdk):
    """Between events an error is plain JSON for Google's SDKs, else an event; in an array it is an element."""
    view = ClientView("m", "r1", is_array, is_google_sdk)
    told = AnswerEvents(view).failure(GatewayError(503, "Not now.", headers={"retry-after": "7"}))
    failed = AnswerEvents(view).feed(events.failed_stream("rate_limit_exceeded", "Slow down.")[-1])
    for written, code in ((told, 503), (failed, 429)):
        assert written.startswith(b"data: ") is (is_array or not is_google_sdk)
        assert json.loads(written.removeprefix(b"data: "))["error"]["code"] == code
    (info,) = json.loads(told.removeprefix(b"data: "))["error"]["details"]
    assert info["retryDelay"] == "7s"
