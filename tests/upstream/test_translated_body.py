"""A translated body returns all that has arrived, never waits with ``read(0)``, and loses nothing in a break."""

import pytest

from floway_core.errors import UpstreamBroken
from floway_core.provider import ResponseBody
from floway_core.upstream.translated import TranslatedBody

NOTHING = None
BREAK = UpstreamBroken("broken")


class Scripted(ResponseBody):
    """Returns or raises one step of a script at each read, and then the end of the body."""

    def __init__(self, *steps):
        self.steps, self.timeouts, self.closed = list(steps), [], False

    def read(self, timeout, client=None):
        self.timeouts.append(timeout)
        step = self.steps.pop(0) if self.steps else b""
        if isinstance(step, Exception):
            raise step
        return step

    def fileno(self):
        return 7

    def close(self):
        self.closed = True


class Upper:
    """Converts events to upper case, and leaves comments out."""

    def feed(self, block):
        return b"".join(event + b"\n\n" for event in block.upper().split(b"\n\n") if event.startswith(b"DATA"))

    def end(self):
        return b"END"

    def failure(self, error):
        return b"FAILED"


def translated(*steps, **options):
    inner = Scripted(*steps)
    return TranslatedBody(inner, Upper(), lambda document: b"<" + document + b">", **options), inner


def read_all(body):
    pieces = []
    while piece := body.read(1):
        pieces.append(piece)
    return pieces


def test_all_that_has_arrived_is_read_without_waiting():
    body, inner = translated(b"data: a\n\ndata", b": b\n\n", NOTHING, b": comment\n\n", NOTHING)
    assert body.read(0) == b"DATA: A\n\nDATA: B\n\n"
    assert body.read(0) is None, "comments alone are nothing to return"
    assert set(inner.timeouts) == {0.0} and body.fileno() == 7


def test_a_wait_ends_with_the_first_event():
    body, inner = translated(b": comment\n\n", b"data: a\n\n", NOTHING, b"data: b\n\n")
    assert body.read(60) == b"DATA: A\n\n"
    assert inner.timeouts[0] > 0 and inner.timeouts[-1] == 0.0
    assert read_all(body) == [b"DATA: B\n\nEND"]


@pytest.mark.parametrize("rest", [b'data: {"a": 1}', b"data: [DONE]", b"data: {}\n"])
def test_the_last_event_may_lack_its_empty_line(rest):
    assert read_all(translated(rest)[0])[0].startswith(b"DATA: ")


@pytest.mark.parametrize("rest", [b'data: {"a"', b"data", b""])
def test_half_an_event_is_none(rest):
    assert read_all(translated(rest)[0]) == [b"END"]


def test_a_json_object_behind_the_events_is_translated(monkeypatch):
    """Some APIs send an error so. What is not whole is left out."""
    monkeypatch.setattr(Upper, "feed", lambda self, block: block.upper())
    for rest, shown in ((b'{\n "error": 5}\n', b'{\n "ERROR": 5}\n\n\n'), (b'{"error"', b""), (b"[5]", b"")):
        body, _ = translated(b"data: a\n\n", rest)
        assert b"".join(read_all(body)) == b"DATA: A\n\n" + shown + b"END"


@pytest.mark.parametrize("document", [b'{"a":1}', b"[1]", b"<html>", b'\xef\xbb\xbf\n {"a":1}'])
def test_a_document_is_converted_when_it_is_whole(document):
    body, _ = translated(document[:3], NOTHING, document[3:])
    assert body.read(0) is None
    assert read_all(body) == [b"<" + document.removeprefix(b"\xef\xbb\xbf") + b">"]


def test_a_byte_order_mark_and_lines_of_windows_do_not_matter():
    (events,) = read_all(translated(b"\xef\xbb\xbfdata: a\r\n\r\n")[0])
    assert events.startswith(b"DATA: A\r\n\r\n") and events.endswith(b"END")


def test_json_lines_become_events_when_they_are_complete():
    body, _ = translated(b'{"a": 1', NOTHING, b'}\r\n\n{"b":2}\n{"c"', NOTHING, b":3}", json_lines=True)
    assert body.read(0) is None
    assert body.read(0) == b'DATA: {"A": 1}\n\nDATA: {"B":2}\n\n'
    assert read_all(body) == [b'DATA: {"C":3}\n\nEND']


@pytest.mark.parametrize("rest", [b'{"b"', b"[1]", b" \r\n", b""])
def test_half_a_json_line_is_no_event(rest):
    body, _ = translated(b'{"a":1}\n', rest, json_lines=True)
    assert read_all(body) == [b'DATA: {"A":1}\n\nEND']


def test_what_came_before_a_break_is_returned_first():
    body, inner = translated(b"data: a\n\n", BREAK)
    assert body.read(0) == b"DATA: A\n\n"
    for _ in range(2):
        with pytest.raises(UpstreamBroken):
            body.read(0)
    body.close()
    assert inner.closed
