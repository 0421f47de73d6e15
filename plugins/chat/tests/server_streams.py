"""Streams as chat servers send them, and the output that a Responses client gets for each."""

import json
from dataclasses import dataclass, field
from typing import Any

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def chunk(delta=None, finish=None, **fields):
    """Encode one chunk. A delta is an object, a text of the answer, or None for a chunk without choices."""
    if isinstance(delta, str):
        delta = {"content": delta}
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices}
    return b"data: %s\n\n" % json.dumps({**body, **fields}).encode()


def calls(*entries):
    """Encode a chunk with entries of ``tool_calls``."""
    return chunk({"tool_calls": list(entries)})


def entry(index=None, id=None, name=None, arguments=None, **fields):
    """Build an entry of ``tool_calls`` with the fields that are not None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    values = {"index": index, "id": id, "function": function, **fields}
    return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Case:
    """What a server sends, and what it means."""

    chunks: list[bytes]
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    """(id or None for any, name, arguments) of each."""
    status: str = "completed"
    usage: tuple[int, int, int, int] = (7, 0, 5, 0)
    """Input, cached, output and reasoning tokens."""


STOP = [chunk({}, "stop"), chunk(None, usage=USAGE), DONE]
TOOLS = [chunk({}, "tool_calls"), chunk(None, usage=USAGE), DONE]
WEATHER = '{"city": "Bonn"}'
NEWS = '{"topic": "sun"}'
TWO_CALLS = [("call_a", "weather", WEATHER), ("call_b", "news", NEWS)]
ANY_TWO_CALLS = [(None, "weather", WEATHER), (None, "news", NEWS)]

CASES = {
    # ------------------------------------------------------------------------------------------------------ texts
    "openai": Case([chunk({"role": "assistant", "content": ""}), chunk("Hel"), chunk("lo."), *STOP], "Hello."),
    "role in every chunk": Case(
        [chunk({"role": "assistant", "content": piece}) for piece in ("Hel", "lo.")] + STOP, "Hello."
    ),
    "null fields in every chunk": Case(
        [
            chunk(
                {"role": "assistant", "content": piece, "refusal": None, "tool_calls": None, "reasoning_content": None}
            )
            for piece in ("Hel", "lo.")
        ]
        + STOP,
        "Hello.",
    ),
    "usage in the last chunk": Case([chunk("Hello."), chunk({}, "stop", usage=USAGE), DONE], "Hello."),
    "usage in every chunk": Case(
        [
            chunk("Hel", usage={"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}),
            chunk("lo.", usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}),
            *STOP,
        ],
        "Hello.",
    ),
    "usage behind the end": Case([chunk("Hello."), chunk({}, "stop"), chunk(None, usage=USAGE)], "Hello."),
    "usage of groq": Case([chunk("Hello."), chunk({}, "stop", x_groq={"id": "r", "usage": USAGE}), DONE], "Hello."),
    "usage of moonshot": Case(
        [
            chunk("Hello."),
            b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop",'
            b'"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"cached_tokens":4}}]}\n\n',
            DONE,
        ],
        "Hello.",
        usage=(7, 4, 5, 0),
    ),
    "usage of deepseek": Case(
        [
            chunk("Hello."),
            chunk(
                {},
                "stop",
                usage={
                    **USAGE,
                    "prompt_cache_hit_tokens": 6,
                    "prompt_cache_miss_tokens": 1,
                    "completion_tokens_details": {"reasoning_tokens": 2},
                },
            ),
            DONE,
        ],
        "Hello.",
        usage=(7, 6, 5, 2),
    ),
    "no usage": Case([chunk("Hello."), chunk({}, "stop"), DONE], "Hello.", usage=(0, 0, 0, 0)),
    "no DONE": Case([chunk("Hello."), chunk({}, "stop", usage=USAGE)], "Hello."),
    "no finish_reason": Case([chunk("Hello."), chunk(None, usage=USAGE), DONE], "Hello."),
    "finish_reason with the last text": Case([chunk("Hel"), chunk("lo.", "stop", usage=USAGE), DONE], "Hello."),
    "empty finish_reason": Case([chunk("Hel", ""), chunk("lo.", ""), chunk({}, "stop", usage=USAGE), DONE], "Hello."),
    "events with names and comments": Case(
        [b": OPENROUTER PROCESSING\n\n", b"event: message\n" + chunk("Hello."), b"\n", *STOP], "Hello."
    ),
    "CRLF": Case([piece.replace(b"\n", b"\r\n") for piece in (chunk("Hello."), *STOP)], "Hello."),
    "no space behind the colon": Case([piece.replace(b"data: ", b"data:") for piece in (chunk("Hi."), *STOP)], "Hi."),
    "null delta at the end": Case(
        [chunk("Hello."), b'data: {"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}\n\n', *STOP[1:]],
        "Hello.",
    ),
    "a whole message in one chunk": Case(
        [
            b'data: {"choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}]}'
            b"\n\n",
            *STOP[1:],
        ],
        "Hello.",
    ),
    "other choices are left out": Case(
        [
            chunk("Hello."),
            b'data: {"choices":[{"index":1,"delta":{"content":"NO"},"finish_reason":null}]}\n\n',
            *STOP,
        ],
        "Hello.",
    ),
    "numbers that JSON does not have": Case(
        [chunk("Hel"), chunk("lo.", odd=[float("nan"), float("-inf")]), *STOP], "Hello."
    ),
    "bytes that are not UTF-8": Case([chunk("Hel"), chunk("lo@").replace(b"@", b"\xff"), *STOP], "Hello\ufffd"),
    "chunks without choices": Case(
        [
            b'data: {"type":"ping"}\n\n',
            chunk("Hello."),
            chunk({}, "stop"),
            chunk(None, usage=USAGE, choices=None),
            DONE,
        ],
        "Hello.",
    ),
    "the limit in the words of another API": Case(
        [chunk("Hel"), chunk({}, "MAX_TOKENS", usage=USAGE), DONE], "Hel", status="incomplete"
    ),
    "the filter in the words of another API": Case(
        [chunk("Hel"), chunk({}, "SAFETY", usage=USAGE), DONE], "Hel", status="incomplete"
    ),
    "length": Case([chunk("Hel"), chunk({}, "length", usage=USAGE), DONE], "Hel", status="incomplete"),
    "content_filter": Case([chunk("Hel"), chunk({}, "content_filter", usage=USAGE), DONE], "Hel", status="incomplete"),
    "refusal": Case([chunk({"refusal": "I "}), chunk({"refusal": "won't."}), *STOP], refusal="I won't."),
    # -------------------------------------------------------------------------------------------------- reasoning
    "reasoning_content": Case(
        [
            chunk({"role": "assistant", "content": None, "reasoning_content": "H"}),
            chunk({"content": None, "reasoning_content": "m."}),
            chunk({"content": "Yes.", "reasoning_content": None}),
            *STOP,
        ],
        "Yes.",
        "Hm.",
    ),
    "reasoning": Case([chunk({"content": "", "reasoning": "Hm."}), chunk("Yes."), *STOP], "Yes.", "Hm."),
    "both fields": Case([chunk({"reasoning": "Hm.", "reasoning_content": "Hm."}), chunk("Yes."), *STOP], "Yes.", "Hm."),
    "reasoning_text": Case([chunk({"reasoning_text": "Hm."}), chunk("Yes."), *STOP], "Yes.", "Hm."),
    "only reasoning_details": Case(
        [chunk({"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}), chunk("Yes."), *STOP], "Yes.", "Hm."
    ),
    "gemini": Case([chunk("<thought>Hm."), chunk("</thought>Yes."), *STOP], "Yes.", "Hm."),
    "think tags beside empty calls": Case(
        [
            chunk({"content": "<thi", "function_call": {"name": "", "arguments": ""}}),
            chunk({"content": "nk>Hm.</think>Yes.", "tool_calls": [{}]}),
            *STOP,
        ],
        "Yes.",
        "Hm.",
    ),
    "mistral": Case(
        [
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}),
            chunk({"content": [{"type": "text", "text": "Yes."}]}),
            *STOP,
        ],
        "Yes.",
        "Hm.",
    ),
    "think tags": Case([chunk("<think>Hm.</think>\n\nYes."), *STOP], "Yes.", "Hm."),
    "think tags in pieces": Case(
        [chunk(piece) for piece in ("\n", "<", "thi", "nk", ">\nH", "m", ".<", "/think", ">", "\n\n", "Yes", ".")]
        + STOP,
        "Yes.",
        "Hm.",
    ),
    "think tags, letter by letter": Case(
        [chunk(letter) for letter in "<think>a < b</thin</think>Yes <think>."] + STOP, "Yes <think>.", "a < b</thin"
    ),
    "only a thought": Case(
        [chunk("<think>Hm."), chunk({}, "length", usage=USAGE), DONE], "", "Hm.", status="incomplete"
    ),
    "nearly a tag": Case([chunk("<"), chunk("th"), chunk("is>"), *STOP], "<this>"),
    "only the beginning of a tag": Case([chunk("<thi"), *STOP], "<thi"),
    "a tag within the answer": Case([chunk("Write <think>x</think>."), *STOP], "Write <think>x</think>."),
    "a call behind a thought in tags": Case(
        [chunk("<think>Hm.</think>"), calls(entry(0, "call_a", "weather", WEATHER)), *TOOLS],
        "",
        "Hm.",
        calls=TWO_CALLS[:1],
    ),
    # ------------------------------------------------------------------------------------------------------ calls
    "calls of openai": Case(
        [
            calls(entry(0, "call_a", "weather", "", type="function")),
            calls(entry(0, arguments='{"city"')),
            calls(entry(0, arguments=': "Bonn"}')),
            calls(entry(1, "call_b", "news", "", type="function")),
            calls(entry(1, arguments=NEWS)),
            *TOOLS,
        ],
        calls=TWO_CALLS,
    ),
    "text, then a call": Case(
        [chunk("Let me see."), calls(entry(0, "call_a", "weather", WEATHER)), *TOOLS],
        "Let me see.",
        calls=TWO_CALLS[:1],
    ),
    "interleaved": Case(
        [
            calls(entry(0, "call_a", "weather", ""), entry(1, "call_b", "news", "")),
            calls(entry(0, arguments='{"city": '), entry(1, arguments='{"topic": ')),
            calls(entry(1, arguments='"sun"}')),
            calls(entry(0, arguments='"Bonn"}')),
            *TOOLS,
        ],
        calls=TWO_CALLS,
    ),
    "id and name repeated": Case(
        [
            calls(entry(0, "call_a", "weather", '{"city"')),
            calls(entry(0, "call_a", "weather", ': "Bonn"}')),
            calls(entry(1, "call_b", "news", NEWS)),
            *TOOLS,
        ],
        calls=TWO_CALLS,
    ),
    "empty id and name in later chunks": Case(
        [
            calls(entry(0, "call_a", "weather", "")),
            calls(entry(0, "", "", '{"city": "Bonn"}')),
            *TOOLS,
        ],
        calls=TWO_CALLS[:1],
    ),
    "null name in later chunks": Case(
        [
            calls(entry(0, "call_a", "weather", "")),
            calls({"index": 0, "id": None, "function": {"name": None, "arguments": WEATHER}}),
            *TOOLS,
        ],
        calls=TWO_CALLS[:1],
    ),
    "whole calls in one chunk, without an index": Case(
        [calls(entry(None, "call_a", "weather", WEATHER), entry(None, "call_b", "news", NEWS)), *TOOLS],
        calls=TWO_CALLS,
    ),
    "whole calls in two chunks, without an index": Case(
        [calls(entry(None, "call_a", "weather", WEATHER)), calls(entry(None, "call_b", "news", NEWS)), *TOOLS],
        calls=TWO_CALLS,
    ),
    "the index is used again": Case(
        [calls(entry(0, "call_a", "weather", WEATHER)), calls(entry(0, "call_b", "news", NEWS)), *TOOLS],
        calls=TWO_CALLS,
    ),
    "the index is used again, in pieces": Case(
        [
            calls(entry(0, "call_a", "weather", '{"city"')),
            calls(entry(0, None, None, ': "Bonn"}')),
            calls(entry(0, "call_b", "news", '{"topic"')),
            calls(entry(0, None, None, ': "sun"}')),
            *TOOLS,
        ],
        calls=TWO_CALLS,
    ),
    "no ids, the index is used again": Case(
        [calls(entry(0, None, "weather", WEATHER)), calls(entry(0, None, "news", NEWS)), *TOOLS], calls=ANY_TWO_CALLS
    ),
    "no ids, the same function twice": Case(
        [calls(entry(0, None, "weather", WEATHER)), calls(entry(0, None, "weather", '{"city": "Ulm"}')), *TOOLS],
        calls=[(None, "weather", WEATHER), (None, "weather", '{"city": "Ulm"}')],
    ),
    "no ids, no index": Case(
        [calls(entry(None, None, "weather", WEATHER)), calls(entry(None, None, "news", NEWS)), *TOOLS],
        calls=ANY_TWO_CALLS,
    ),
    "no ids, no index, in pieces": Case(
        [
            calls(entry(None, None, "weather", '{"city"')),
            calls(entry(None, None, None, ': "Bonn"}')),
            calls(entry(None, None, "news", NEWS)),
            *TOOLS,
        ],
        calls=ANY_TWO_CALLS,
    ),
    "the same id for both": Case(
        [calls(entry(0, "call_a", "weather", WEATHER)), calls(entry(1, "call_a", "news", NEWS)), *TOOLS],
        calls=[("call_a", "weather", WEATHER), (None, "news", NEWS)],
    ),
    "the name behind the id": Case(
        [calls(entry(0, "call_a")), calls(entry(0, None, "weather")), calls(entry(0, arguments=WEATHER)), *TOOLS],
        calls=TWO_CALLS[:1],
    ),
    "the id behind the name": Case(
        [calls(entry(0, None, "weather", "")), calls(entry(0, "call_a", None, WEATHER)), *TOOLS],
        calls=[(None, "weather", WEATHER)],
    ),
    "arguments as an object": Case(
        [calls(entry(0, "call_a", "weather", {"city": "Bonn"})), *TOOLS],
        calls=[("call_a", "weather", '{"city":"Bonn"}')],
    ),
    "no arguments": Case([calls(entry(0, "call_a", "weather")), *TOOLS], calls=[("call_a", "weather", "{}")]),
    "null arguments": Case(
        [calls({"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": None}}), *TOOLS],
        calls=[("call_a", "weather", "{}")],
    ),
    "finish_reason stop for calls": Case([calls(entry(0, "call_a", "weather", WEATHER)), *STOP], calls=TWO_CALLS[:1]),
    "line breaks between calls": Case(
        [
            calls(entry(0, "call_a", "weather", '{"city"')),
            chunk("\n"),
            calls(entry(0, arguments=': "Bonn"}')),
            *TOOLS,
        ],
        calls=TWO_CALLS[:1],
    ),
    "text within a call": Case(
        [
            calls(entry(0, "call_a", "weather", '{"city"')),
            *(chunk(piece) for piece in ("Let", " ", "me see.")),
            calls(entry(0, arguments=': "Bonn"}')),
            *TOOLS,
        ],
        "Let me see.",
        calls=TWO_CALLS[:1],
    ),
    "another id in each delta": Case(
        [calls(entry(0, "call_a", "weather", '{"city"')), calls(entry(0, "call_b", None, ': "Bonn"}')), *TOOLS],
        calls=TWO_CALLS[:1],
    ),
    "the call in the last chunk": Case(
        [
            chunk({"tool_calls": [entry(0, "call_a", "weather", WEATHER)]}, "tool_calls", usage=USAGE),
            DONE,
        ],
        calls=TWO_CALLS[:1],
    ),
    "the deprecated function_call": Case(
        [
            chunk({"function_call": {"name": "weather", "arguments": ""}}),
            chunk({"function_call": {"arguments": WEATHER}}),
            chunk({}, "function_call", usage=USAGE),
            DONE,
        ],
        calls=[(None, "weather", WEATHER)],
    ),
    "a call that is cut off by the limit": Case(
        [calls(entry(0, "call_a", "weather", '{"ci')), chunk({}, "length", usage=USAGE), DONE],
        calls=[("call_a", "weather", '{"ci')],
        status="incomplete",
    ),
}
