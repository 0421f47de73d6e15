"""Request fields that an upstream does not support are listed in a header of the answer."""

import pytest

from floway_core.testing import Reply, message_stream

HEADER = "x-floway-ignored"
GIVEN = {
    "temperature": 0.5,
    "top_p": 1,
    "reasoning": {"effort": "low"},
    "tools": [{"type": "web_search"}],
    "user": None,
}


def listed(answer):
    assert answer.status == 200 and answer.body
    return answer.headers.get_all(HEADER)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ("", None),
        ("temperature", ["temperature"]),
        ("temperature top_p temperature", ["temperature, top_p"]),
        ("reasoning.effort tools[0]", ["reasoning.effort, tools[0]"]),
        ("truncation user", None),  # absent, and null
        ("metadata store stream model input previous_response_id", None),  # Floway's own business
        ("truncation temperature", ["temperature"]),
    ],
)
def test_what_the_provider_leaves_out(ask, fake_upstream, stream, ignored, expected):
    fake_upstream.script(Reply(message_stream()))
    given = {**GIVEN, "metadata": {"a": "b"}, "store": False}
    ask.headers["x-test-ignore"] = ignored
    assert listed(ask.create(stream=stream, **given)) == expected


def test_a_compaction_too(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream("A summary.")))
    ask.headers["x-test-ignore"] = "temperature"
    assert listed(ask.post({"model": "model-1", "input": "Hi", **GIVEN}, "/v1/responses/compact")) == ["temperature"]


def test_a_second_dispatch_says_nothing_twice(ask, fake_upstream):
    fake_upstream.script(Reply([b"{}"], 401), Reply(message_stream()))
    ask.headers["x-test-ignore"] = "temperature"
    assert listed(ask.create(**GIVEN)) == ["temperature"]


def test_who_failed_says_nothing(ask, fake_upstream):
    """The second candidate honours everything, whatever the first did."""
    fake_upstream.script(Reply([b"{}"], 503))
    ask.headers["x-test-ignore"] = "temperature"
    assert listed(ask.create(model="shared", **GIVEN)) is None


@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_is_a_gateway_has_ignored_something_itself(ask, fake_upstream, stream):
    head = [("content-type", "text/event-stream"), ("X-Floway-Ignored", "user, temperature"), (HEADER, "truncation")]
    fake_upstream.script(Reply(message_stream(), headers=head))
    ask.headers["x-test-ignore"] = "temperature"
    assert listed(ask.create(stream=stream, **GIVEN)) == ["temperature, user, truncation"]


def test_names_that_no_header_can_hold(ask):
    """The echo of everything: names are the client's."""
    odd = {"a\r\nx-forged: 1": 1, "ü": 1, "": 1, "a b": 1, "a,b": 1, "x" * 200: 1, "fine": 1}
    ask.headers["x-test-ignore"] = "everything"
    answer = ask.create(model="canned", temperature=1, **odd)
    assert listed(answer) == ["temperature, fine"]
    assert answer.headers["x-forged"] is None


def test_a_list_without_end_is_cut(ask):
    ask.headers["x-test-ignore"] = "everything"
    (value,) = listed(ask.create(model="canned", **{f"field_{number}": 1 for number in range(5000)}))
    assert value.endswith(", ...") and len(value) < 2100
    assert value.startswith("field_0, field_1, ")
