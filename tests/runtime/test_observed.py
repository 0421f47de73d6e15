"""What observers see of a request."""

from types import SimpleNamespace

from floway_core.contexts import ResponsesRequestContext
from floway_core.protocol.lazy_items import LazyItems
from floway_core.runtime.observed import read_only


def test_unread_items_are_a_list_of_their_own():
    items = LazyItems([b'{"number":1}', b'{"number":2}'])
    request = SimpleNamespace(body={"input": items}, original=None, headers={})
    attempt = SimpleNamespace(request=request, previous=None, ignored=[])
    seen = read_only(ResponsesRequestContext(attempt, 1, {"input": items}))
    for body in (seen.body, seen.attempt.request.body):
        assert body["input"] == [{"number": 1}, {"number": 2}] and type(body["input"]) is list
        body["input"][0]["number"] = 7
    assert items[0] == {"number": 1}
