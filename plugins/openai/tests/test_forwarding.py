"""The openai package reaches embeddings, images, audio and the rest of an upstream's API through the gateway."""

import base64
import json

import openai
import pytest

from floway_core.testing import Reply, Step

from .conftest import KEY, add, as_json, dispatches


@pytest.fixture
def sdk(gateway, upstream):
    add(gateway, "one", upstream.url)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def test_embeddings(sdk, upstream):
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    vector = base64.b64encode(b"\0\0\x80?").decode()  # the package asks for base64 by itself
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    upstream.script(as_json({"object": "list", "data": data, "model": "model-1", "usage": usage}))
    told = sdk.embeddings.create(model="model-1", input=["Hi"])
    assert told.data[0].embedding == [1.0] and told.usage.total_tokens == 2
    (sent,) = dispatches(upstream)
    assert sent.path == "/v1/embeddings" and json.loads(sent.body)["input"] == ["Hi"]
    assert sent.header("authorization") == f"Bearer {KEY}" and sent.header("user-agent").startswith("floway-openai/")


def test_a_transcription(sdk, upstream):
    upstream.script(as_json({"text": "Hello.", "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 1}}))
    told = sdk.audio.transcriptions.create(model="model-2", file=("a.mp3", b"\xff\xf3" * 500, "audio/mpeg"))
    assert told.text == "Hello."
    (sent,) = dispatches(upstream)
    assert sent.path == "/v1/audio/transcriptions" and b"\xff\xf3" * 500 in sent.body and b"a.mp3" in sent.body


def test_a_transcription_is_streamed(sdk, upstream):
    first = b'data: {"type": "transcript.text.delta", "delta": "Hel"}\n\n'
    last = b'data: {"type": "transcript.text.done", "text": "Hello", "usage": {"type": "tokens"}}\n\n'
    upstream.script(Reply([first, Step.HOLD, last, b"data: [DONE]\n\n"]))
    stream = sdk.audio.transcriptions.create(model="model-2", file=("a.mp3", b"x"), stream=True)
    assert next(stream).delta == "Hel"
    upstream.release.set()
    assert [event.type for event in stream] == ["transcript.text.done"]


def test_speech(sdk, upstream):
    sound = bytes(range(256)) * 100
    upstream.script(Reply([sound], headers=[("content-type", "audio/mpeg")]))
    with sdk.audio.speech.with_streaming_response.create(model="model-1", voice="alloy", input="Hi") as answer:
        assert answer.headers["content-type"] == "audio/mpeg" and answer.read() == sound


def test_images(sdk, upstream):
    upstream.script(*[as_json({"created": 1, "data": [{"b64_json": "aGk="}]})] * 2)
    assert sdk.images.generate(model="model-1", prompt="A cat").data[0].b64_json == "aGk="
    assert sdk.images.edit(model="model-1", image=("a.png", b"png", "image/png"), prompt="A dog").data
    assert [request.path for request in dispatches(upstream)] == ["/v1/images/generations", "/v1/images/edits"]


def test_moderations_and_completions(sdk, upstream):
    upstream.script(as_json({"id": "modr_1", "model": "model-1", "results": []}))
    assert sdk.moderations.create(model="model-1", input="Hi").id == "modr_1"
    chunk = {"id": "cmpl_1", "object": "text_completion", "choices": [{"index": 0, "text": "Hello"}]}
    upstream.script(Reply([f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n"]))
    stream = sdk.completions.create(model="model-1", prompt="Hi", stream=True)
    assert [told.choices[0].text for told in stream] == ["Hello"]


def test_searches_of_clients_that_search_by_themselves(sdk, upstream):
    upstream.script(as_json({"results": [1]}))
    assert sdk.post("/alpha/search", body={"model": "model-1", "commands": {}}, cast_to=object) == {"results": [1]}
    assert dispatches(upstream)[0].path == "/v1/alpha/search"


def test_a_refusal(sdk, upstream):
    error = {"message": f"No, {KEY}.", "type": "invalid_request_error", "param": "input", "code": "odd"}
    upstream.script(as_json({"error": error}, 400))
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model="model-1", input="")
    assert refused.value.code == "odd" and KEY not in str(refused.value)
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.moderations.create(input="Hi")  # whose default model nobody serves here
    assert missing.value.code == "model_not_found" and "omni-moderation-latest" in str(missing.value)
