"""The fake upstream's answers in the form of Chat Completions, and the check of such answers.

The deltas have the same labels and time stamps as those of ``benchmarks.wire``.
"""

import functools
import json
from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, parse_object

PATH = "/chat/completions"
MODEL = "bench-chat"
"""The model whose upstream is asked for Chat Completions."""

_HEAD = b'data: {"id":"chatcmpl-'
_MIDDLE = (
    b'","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_1","choices":['
)
_DELTA = b'{"index":0,"delta":{"content":"'
_TAIL = b' "},"logprobs":null,"finish_reason":null}]}\n\n'
_ROLE = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
_FINISH = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
_USAGE = b'],"usage":{"prompt_tokens":75,"completion_tokens":%d,"total_tokens":%d}}\n\n'
DONE = b"data: [DONE]\n\n"


def opening_events(id: bytes) -> list[bytes]:
    """The event before the deltas; ``id`` has ``wire.ID`` digits."""
    return [_HEAD + id + _MIDDLE + _ROLE]


def delta_event(number: int, id: bytes, stamp: bytes) -> bytes:
    """The event of one delta."""
    return b"".join((_HEAD, id, _MIDDLE, _DELTA, _label(number), stamp, _TAIL))


def closing_events(id: bytes, deltas: int, text: bytes) -> list[bytes]:
    """The events after the deltas."""
    begin = _HEAD + id + _MIDDLE
    return [begin + _FINISH, begin + _USAGE % (deltas, 75 + deltas), DONE]


def whole_answer(id: bytes, deltas: int, text: bytes) -> bytes:
    """The answer to a request that does not stream."""
    message = {"role": "assistant", "content": text.decode()}
    usage = {"prompt_tokens": 75, "completion_tokens": deltas, "total_tokens": 75 + deltas}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": f"chatcmpl-{id.decode()}", "object": "chat.completion", "created": 1700000000, "model": wire.MODEL}
    return json.dumps({**answer, "choices": [choice], "usage": usage}).encode()


_label = functools.cache(wire.label)


class ChatStreamCheck:
    """Checks the chunks of one stream as they arrive, as ``answers.StreamCheck`` the events of the Responses API."""

    def __init__(self, deltas: int, delays: array) -> None:
        """:param delays: receives the nanoseconds from writing to receiving each delta."""
        self._deltas, self._delays = deltas, delays
        self._rest = b""
        self._count = 0
        self._finish: Any = None
        self.events = 0
        self.id = ""
        self.complete = False

    def feed(self, data: bytes, now: int) -> None:
        """:param now: when ``data`` was received, in nanoseconds of the monotonic clock.
        :raises WrongAnswer: something is lost, out of order or altered.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self._check_chunk(event, now)

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        if self._rest.strip():
            raise WrongAnswer("the stream ends within an event")
        if not self.complete or self._count != self._deltas:
            raise WrongAnswer(f"the stream ends after {self._count} deltas, complete: {self.complete}")

    def _check_chunk(self, event: bytes, now: int) -> None:
        data = event.partition(b"data: ")[2]
        if not data:
            return  # a comment
        if data == b"[DONE]":
            self.complete = self._finish == "stop"
            return
        label = _label(self._count)
        at = data.find(b'"content":"' + label)
        if at >= 0 and self._finish is None:
            stamp = data[at + 11 + len(label) :][: wire.STAMP]
            self._delays.append(max(0, now - int(stamp)))
            self._count += 1
        else:
            self._check_other_chunk(parse_object(data))
        self.events += 1

    def _check_other_chunk(self, chunk: dict[str, Any]) -> None:
        """Check a chunk that is not the delta that is due."""
        self.id = chunk.get("id") or self.id
        for choice in chunk.get("choices") or ():
            if choice["delta"].get("content"):
                raise WrongAnswer(f"delta {self._count} was due: {chunk}"[:200])
            self._finish = choice.get("finish_reason") or self._finish
        if "error" in chunk:
            raise WrongAnswer(f"the stream failed: {chunk}"[:200])
        if (usage := chunk.get("usage")) and usage["completion_tokens"] != self._deltas:
            raise WrongAnswer(f"the usage is {usage}")


def check_whole(body: bytes, deltas: int) -> str:
    """Check an answer in one piece.

    :returns: its id.
    :raises WrongAnswer: it is not what the upstream sent.
    """
    answer = parse_object(body)
    try:
        choice, usage = answer["choices"][0], answer["usage"]["completion_tokens"]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"the answer lacks {error}: {body[:200]!r}") from None
    words = text.encode().split(b" ")[:-1]
    if [word.partition(b".")[0] + b"." for word in words] != [_label(number) for number in range(deltas)]:
        raise WrongAnswer("the text is not the one that was sent")
    if choice["finish_reason"] != "stop" or usage != deltas:
        raise WrongAnswer("the answer has another end or usage")
    return str(answer["id"])
