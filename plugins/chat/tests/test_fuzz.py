"""Chat requests that no sane client sends: served or refused by name, and never a fault of the gateway."""

import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floway_core.testing import Reply, message_stream

TIMES = int(os.environ.get("FLOWAY_TEST_FUZZ") or 1)
"""How many times as much as in the suite; see ``make fuzz``."""

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


def examples(count):
    """The settings of a test that tries so many examples in the suite, always the same ones."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
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
