"""Required, optional and wrong parameters of requests."""

import json

import pytest

from floway_core.testing import Reply, message_stream
from floway_core.testing.events import parse

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
    expected = f"Model {model} is not available on any configured upstream."
    assert message == (expected if len(expected) <= 4000 else expected[:4000] + "...")


@pytest.mark.parametrize("body", [{"model": "model-1"}, {"model": "model-1", "input": None}])
def test_a_missing_input(ask, refused, body):
    message = refused(ask.post(body), 400, "missing_required_parameter", "input")
    assert message == "Missing required parameter: 'input'."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("given", [{}, {"input": None}])
def test_a_prompt_needs_no_input(ask, fake_upstream, stream, given):
    fake_upstream.script(*[Reply(message_stream())] * 2)
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"name": "x"}}
    answer = ask.post({"model": "model-1", "prompt": prompt, "stream": stream, **given})
    assert answer.status == 200
    told = parse(answer.body)[-1]["response"] if stream else answer.json()
    sent = json.loads(fake_upstream.requests[0].body)
    assert (sent["prompt"], sent["input"]) == (prompt, [])
    assert ask.create("Go on", previous_response_id=told["id"]).status == 200
    assert [item["role"] for item in json.loads(fake_upstream.requests[1].body)["input"]] == ["assistant", "user"]


@pytest.mark.parametrize("prompt", [{}, {"id": None}, {"id": "", "version": "1"}])
def test_a_prompt_without_its_id(ask, refused, prompt):
    refused(ask.post({"model": "model-1", "prompt": prompt}), 400, "missing_required_parameter", "prompt.id")


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


@pytest.mark.parametrize("name", ["conversation", "background", "previous_response_id"])
def test_null_means_not_given(ask, fake_upstream, name):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(**{name: None}).status == 200


def test_background_false_means_not_given(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(background=False).status == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("told", [{}, {"metadata": {}}, {"metadata": None}])
def test_the_metadata_of_a_request_comes_back(ask, fake_upstream, stream, told):
    """Whether the upstream knows of it or not."""
    fake_upstream.script(Reply(message_stream(**told)))
    answer = ask.create(metadata={"a": "b"}, stream=stream)
    response = parse(answer.body)[-1]["response"] if stream else answer.json()
    assert response["metadata"] == {"a": "b"}
    stored = ask.get(f"/v1/responses/{response['id']}").json()
    assert stored["metadata"] == {"a": "b"}


def test_the_ids_of_responses_stay_here(ask, fake_upstream):
    """No upstream knows them."""
    fake_upstream.script(*[Reply(message_stream())] * 2)
    first = ask.create().json()["id"]
    options = {"mode": "implicit", "comparison_response_id": first}
    assert ask.create(previous_response_id=first, prompt_cache_options=options).status == 200
    sent = fake_upstream.requests[-1].body
    assert json.loads(sent)["prompt_cache_options"] == {"mode": "implicit"}
    assert first.removeprefix("resp_").encode() not in sent
