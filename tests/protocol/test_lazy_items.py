"""Items that are parsed when they are first read."""

import pytest

from floway_core.protocol import jsontext
from floway_core.protocol.lazy_items import LazyItems, dumps_body

FIRST, SECOND, THIRD = ({"number": number} for number in (1, 2, 3))
UNREADABLE = b"read by nobody"


def test_only_what_is_read_is_parsed():
    items = LazyItems([UNREADABLE, b'{"number":2}', THIRD])
    assert (len(items), items[1], items[-1]) == (3, SECOND, THIRD)
    assert items[1] is items[1]
    assert list(items[1:]) == [SECOND, THIRD]
    added = [FIRST]
    assert len(items + added) == 4 and (items + added)[3] is FIRST
    with pytest.raises(ValueError):
        list(items)


def test_they_are_a_sequence_of_items():
    items = LazyItems([b'{"number":1}', SECOND]) + LazyItems([b'{"number":3}'])
    assert list(items) == [FIRST, SECOND, THIRD] == list(items)
    assert items == [FIRST, SECOND, THIRD] and items[:1] == [FIRST] and items != [FIRST]
    assert list(reversed(items)) == [THIRD, SECOND, FIRST]
    assert not LazyItems([])


def test_what_only_the_standard_library_parses_is_parsed():
    assert list(LazyItems([b'{"text":"\\ud83d"}', b'{"number":2}'])) == [{"text": "\ud83d"}, SECOND]


@pytest.mark.parametrize("text", ["short", "\ud83d"])
def test_a_body_is_written_without_reading_them(text):
    added = {"text": text}
    body = {"model": "m", "input": LazyItems([b'{"number":1}', b'{"number":2}', added]), "stream": True}
    assert body["input"][1] == SECOND
    written = dumps_body(body)
    assert jsontext.loads(written) == {"model": "m", "input": [FIRST, SECOND, added], "stream": True}
    assert written == dumps_body({**body, "input": [FIRST, SECOND, added]})
    assert list(body) == ["model", "input", "stream"]


def test_items_that_nobody_has_read_are_written_as_they_are():
    assert dumps_body({"input": LazyItems([b'{"number": 1}', THIRD])}) == b'{"input":[{"number": 1},{"number":3}]}'
