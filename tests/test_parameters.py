"""What a request must and must not hold."""

import json

import pytest

from floway_core.testing import Reply, message_stream

GOOD = {"model": "model-1", "input": "Hi"}


@pytest.mark.parametrize("body", [{"input": "Hi"}, {"input": "Hi", "model": None}, {"input": "Hi", "model": ""}, {}])
def test_a_missing_model(ask, refused, fake_upstream, body):
    message = refused(ask.post(body), 400, "missing_required_parameter", "model")
    assert message == "Missing required parameter: 'model'."
    assert fake_upstream.requests == []


@pytest.mark.parametrize("model", [1, True, ["model-1"], {"id": "model-1"}])
def test_a_model_of_the_wrong_type(ask, refused, model):
    refused(ask.post({**GOOD, "model": model}), 400, "invalid_type", "model")


@pytest.mark.parametrize("model", ["model-9", "MODEL-1", "modèle\n", "x" * 5000])
@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_model_is_named(ask, refused, model, stream):
    message = refused(ask.create(model=model, stream=stream), 404, "model_not_found", "model")
    assert message == f"Model {model} is not available on any configured upstream."


@pytest.mark.parametrize("body", [{"model": "model-1"}, {"model": "model-1", "input": None}])
def test_a_missing_input(ask, refused, body):
    message = refused(ask.post(body), 400, "missing_required_parameter", "input")
    assert message == "Missing required parameter: 'input'."


@pytest.mark.parametrize("given", [1, True, {"role": "user"}, 1.5])
def test_an_input_of_the_wrong_type(ask, refused, given):
    refused(ask.create(given), 400, "invalid_type", "input")


def test_too_many_items(ask, refused, fake_upstream):
    refused(ask.create([{}] * 50_001), 400, "array_above_max_length", "input")
    assert fake_upstream.requests == []


@pytest.mark.parametrize("item", ["text", None, 1, [{"role": "user"}]])
def test_an_item_that_is_no_object(ask, refused, item):
    refused(ask.create([{"role": "user", "content": "Hi"}, item]), 400, "invalid_type", "input[1]")


@pytest.mark.parametrize("given", ["Hi", "é\u2028", [], [{}], [{"role": "user", "content": "Hi"}]])
def test_any_other_input_is_the_upstreams_business(ask, fake_upstream, given):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(given).status == 200
    text = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    assert json.loads(fake_upstream.requests[0].body)["input"] == (given if isinstance(given, list) else text)


@pytest.mark.parametrize("stream", ["true", 1, 0, [], {}])
def test_a_stream_flag_that_is_no_boolean(ask, refused, stream):
    refused(ask.create(stream=stream), 400, "invalid_type", "stream")


@pytest.mark.parametrize("stream", [None, False])
def test_without_the_stream_flag_the_answer_is_json(ask, fake_upstream, stream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(stream=stream).headers.get_content_type() == "application/json"


def test_a_previous_response_is_not_found(ask):
    answer = ask.create(previous_response_id="resp_abc")
    assert answer.status == 400
    assert answer.json() == {
        "error": {
            "message": "Previous response with id 'resp_abc' not found.",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        }
    }


@pytest.mark.parametrize(
    ("name", "value"), [("conversation", "conv_1"), ("conversation", {"id": "conv_1"}), ("background", True)]
)
def test_what_is_not_offered_is_said(ask, refused, name, value):
    assert name in refused(ask.create(**{name: value}), 400, "unsupported_parameter", name)


@pytest.mark.parametrize("name", ["conversation", "background", "previous_response_id"])
def test_null_means_not_given(ask, fake_upstream, name):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(**{name: None}).status == 200


def test_background_false_means_not_given(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(background=False).status == 200
