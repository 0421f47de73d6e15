"""What of a client's request changes on its way to an upstream of the same API."""

import json

import pytest
from floway_anthropic import search, thinking
from floway_anthropic.upstream import models as upstream_models
from floway_anthropic.upstream import pass_through
from floway_anthropic.upstream.history import encode_thinking

from floway_core.dialect import DialectRequest
from floway_core.errors import NoModelList

from .test_events import REASONING
from .test_requests import SEARCH
from .wire import say, think

RAW = b'{ "max_tokens" : 1.0, "model" : "mine", "messages": [ {"role":"user","content":"\\u00fc"} ], "x": 1e2}'


def request(raw, query=None):
    return DialectRequest("POST", "/v1/messages", {}, query or {}, {}, json.loads(raw), raw)


def test_not_a_byte_changes():
    assert pass_through.write_body(request(RAW), "mine") == RAW


def test_only_the_name_of_the_model_changes():
    assert pass_through.write_body(request(RAW), 'other"') == RAW.replace(b'"model" : "mine"', b'"model":"other\\""')


@pytest.mark.parametrize("model", ["mine", "sonnet"])
def test_other_fields_called_model_stay(model):
    """Such as in the input of a tool that starts an agent."""
    call = b'{"type":"tool_use","id":"t","name":"Task","input":{ "model":"sonnet" }}'
    raw = b'{"messages":[{"role":"assistant","content":[%b]}], "model": "%b", "x":1e2}' % (call, model.encode())
    assert pass_through.write_body(request(raw), "other") == raw.replace(
        b'"model": "%b"' % model.encode(), b'"model":"other"'
    )


def test_headers_and_query():
    headers = {"anthropic-beta": "a,b", "anthropic-version": "2026-10-21", "user-agent": "me", "x-app": "cli"}
    assert pass_through.upstream_headers(headers) == {"anthropic-beta": "a,b", "anthropic-version": "2026-10-21"}
    assert pass_through.upstream_headers({}) == {"anthropic-version": "2023-06-01"}
    assert pass_through.query_string(request(RAW, {"beta": "true"})) == "?beta=true"
    assert pass_through.query_string(request(RAW)) == ""


def test_what_other_upstreams_have_made_is_removed():
    theirs = think("Hm.")
    own = thinking.to_block(REASONING)
    translated = thinking.to_block({"type": "reasoning", "summary": [], "encrypted_content": encode_thinking(theirs)})
    results = search.result_block(SEARCH)
    content = [own, theirs, translated, search.use_block(SEARCH), results, say("Text.")]
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content},
        {"role": "assistant", "content": [own]},
        {"role": "user", "content": "Go on"},
    ]
    raw = json.dumps({"model": "m", "messages": messages}).encode()
    written = json.loads(pass_through.write_body(request(raw), "m"))["messages"]
    assert [message["role"] for message in written] == ["user", "assistant", "user"]
    assert written[1]["content"] == [theirs, theirs, say("Text.")]


def test_citations_of_other_upstreams_are_removed():
    """They have no index that the upstream could read."""
    results = search.result_block(SEARCH)
    made = search.citation({"type": "url_citation", "url": "https://a.example/", "title": "A"}, "Text.")
    theirs = {**made, "encrypted_index": "theirs"}
    content = [
        search.use_block(SEARCH),
        results,
        {**say("One."), "citations": [made]},
        {**say("Two."), "citations": [made, theirs]},
        {**say("Three."), "citations": None},
    ]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    raw = json.dumps({"model": "m", "messages": messages}).encode()
    written = json.loads(pass_through.write_body(request(raw), "m"))["messages"][1]["content"]
    assert written == [say("One."), {**say("Two."), "citations": [theirs]}, {**say("Three."), "citations": None}]


def test_pages_of_models():
    entries = [
        {"id": "a", "created_at": "2026-01-01T00:00:00Z", "max_tokens": 5},
        {"id": 7},
        "x",
        {"id": "b", "created": 9},
    ]
    page = {"data": entries, "has_more": True, "last_id": "b"}
    models, following = upstream_models.parse_page(json.dumps(page).encode(), "It")
    assert [(model.id, model.created) for model in models] == [("a", 1767225600), ("b", 9)] and following == "b"
    assert models[0].details["max_tokens"] == 5
    assert upstream_models.parse_page(b'{"data": []}', "It") == ([], None)
    for content in (b"<html>", b"[]", b'{"data": {}}'):
        with pytest.raises(NoModelList):
            upstream_models.parse_page(content, "It")
