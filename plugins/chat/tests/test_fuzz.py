"""Requests that no sane client sends, and streams that no sane server sends: never a fault of the gateway."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from floway_core.testing import Reply, message_stream
from floway_core.testing.fuzz import examples

from .server_streams import DONE
from .upstreams import as_json

pytestmark = pytest.mark.soak  # long: many processes, or many examples

NAMES = st.sampled_from(
    """audio content custom detail file file_data file_id filename format function function_call functions id image_url
    input input_audio json_schema logit_bias logprobs max_tokens messages metadata model modalities n name parameters
    reasoning reasoning_details refusal response_format role schema seed stop store stream stream_options text
    tool_call_id tool_calls tool_choice tools top_logprobs type url user_location web_search_options""".split()
)
WORDS = st.sampled_from(
    """allowed_tools assistant auto custom developer f file function image_url input_audio json_object json_schema none
    reasoning.encrypted reasoning.summary refusal required system text tool user""".split()
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1e300, 0.5, 2**70, "\ud83d", "", "\u2028"]),
    WORDS,
    st.text(max_size=4),
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)
CALL = st.fixed_dictionaries(
    {}, optional={"id": st.sampled_from(["c1", "c2"]) | VALUE, "type": WORDS, "function": VALUE, "custom": VALUE}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "function"]) | VALUE},
    optional={
        "content": st.text(max_size=3) | VALUE,
        "tool_calls": st.lists(CALL, max_size=2) | VALUE,
        "tool_call_id": st.sampled_from(["c1", "c2"]) | VALUE,
        "name": VALUE,
        "function_call": VALUE,
        "refusal": VALUE,
        "reasoning_details": VALUE,
        "reasoning_content": VALUE,
    },
)


def check(client, upstream, body):
    upstream.answer_always("/responses", Reply(message_stream()))
    upstream.forget()
    answer = client.post(json.dumps(body).encode(), "/v1/chat/completions")
    assert answer.status in (200, 400, 404), answer.body
    if answer.status == 200:
        assert len(upstream.requests) == 1
        return
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert error["type"] == "invalid_request_error" and not upstream.requests
    assert answer.status == 404 or error["code"] == "invalid_json" or error["param"]


@examples(150)
@given(messages=st.lists(MESSAGE, max_size=4))
def test_any_messages(client, upstream, messages):
    check(client, upstream, {"model": "model-1", "messages": messages})


@examples(150)
@given(fields=st.dictionaries(NAMES, VALUE, max_size=4))
def test_any_fields(client, upstream, fields):
    check(client, upstream, {"model": "model-1", "messages": [{"role": "user", "content": "Hi"}], **fields})


# -------------------------------------------------------------------------------------------------------- chat servers
@examples(150)
@given(
    messages=st.just([{"role": "user", "content": "Hi"}]) | st.lists(MESSAGE, max_size=3) | VALUE,
    fields=st.dictionaries(NAMES, VALUE, max_size=4),
    answers_well=st.booleans(),
)
def test_any_chat_request_on_a_chat_server(caller, server, messages, fields, answers_well):
    """It passes as it is, or the gateway refuses it because it could not tell what to do with it."""
    server.forget()
    whole = as_json({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]})
    stream = Reply([b'data: {"choices":[{"delta":{"content":"Hi."},"finish_reason":"stop"}]}\n\n', DONE])
    body = {"messages": messages, **fields, "model": "model-1"}
    server.script(stream if (body.get("stream") is True) is answers_well else whole)
    raw = json.dumps(body).encode()
    answer = caller.post(raw, "/v1/chat/completions")
    if answer.status == 400:
        assert answer.json()["error"]["message"] and not server.requests
    else:
        assert answer.status == 200 and answer.body, answer.body
        assert json.loads(server.requests[-1].body) == json.loads(raw)


ITEM_NAMES = st.sampled_from(
    """arguments call_id content detail encrypted_content file_data file_id format id image_url input input_audio name
    namespace output reasoning role schema summary text tool_choice tools type""".split()
)
ITEM_WORDS = st.sampled_from(
    """assistant custom custom_tool_call custom_tool_call_output developer function function_call function_call_output
    input_file input_image input_text json_schema message namespace output_text reasoning system user""".split()
)
ITEM_VALUE = st.recursive(
    SCALAR | ITEM_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ITEM_NAMES, inner, max_size=4),
    max_leaves=8,
)
ITEM = st.builds(
    lambda kind, fields: {**fields, "type": kind}, ITEM_WORDS, st.dictionaries(ITEM_NAMES, ITEM_VALUE, max_size=5)
)
REQUEST_FIELDS = st.sampled_from(
    "include instructions metadata reasoning seed stop text tool_choice tools top_logprobs truncation user".split()
)


@examples(100)
@example(items=[{"type": "custom_tool_call_output", "call_id": []}], fields={})
@given(items=st.lists(ITEM, max_size=4), fields=st.dictionaries(REQUEST_FIELDS, ITEM_VALUE, max_size=3))
def test_any_responses_request_on_a_chat_server(caller, server, items, fields):
    server.forget()
    server.script(as_json({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}))
    answer = caller.post({"model": "model-1", "input": items, "store": False, **fields})
    assert answer.status in (200, 400, 404), answer.body
    assert answer.status == 200 or answer.json()["error"]["message"]


CHUNK_NAMES = st.sampled_from(
    """arguments choices code content custom delta error finish_reason function function_call id index input logprobs
    message name reasoning reasoning_content refusal text thinking tool_calls type usage x_groq prompt_tokens
    completion_tokens annotations url_citation""".split()
)
CHUNK_VALUE = st.recursive(
    SCALAR | st.sampled_from(["<think>", "</think>", "stop", "length", "thinking"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CHUNK_NAMES, inner, max_size=4),
    max_leaves=10,
)
DELTA = st.dictionaries(CHUNK_NAMES, CHUNK_VALUE, max_size=3)
CHUNK = st.one_of(
    st.builds(
        lambda delta, finish, fields: {"choices": [{"delta": delta, "finish_reason": finish}], **fields},
        DELTA,
        st.sampled_from([None, None, "stop", "tool_calls", "", 7]),
        st.dictionaries(CHUNK_NAMES, CHUNK_VALUE, max_size=1),
    ),
    CHUNK_VALUE,
)


@examples(150)
@given(chunks=st.lists(CHUNK, max_size=5), is_done=st.booleans(), speaks_chat=st.booleans())
def test_any_stream_of_a_chat_server(caller, server, chunks, is_done, speaks_chat):
    server.forget()
    stream = [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks]
    server.script(Reply([*stream, DONE] if is_done else stream))
    answer = (caller.chat if speaks_chat else caller.create)(stream=True)
    if answer.status != 200:
        assert answer.json()["error"]["message"]
    elif not speaks_chat:
        terminal = answer.events()[-1]
        assert terminal["type"] in ("response.completed", "response.incomplete", "response.failed")
    else:
        assert answer.body
    server.script(as_json(chunks[0] if chunks else {}))
    whole = caller.create()
    assert whole.status < 400 or whole.json()["error"]["message"]
