"""Prompts that operators send from the playground, as one of the API keys."""

import json

import pytest

from floway_core.testing import ApiClient


@pytest.fixture
def prompt(gateway, operator):
    """Sends a prompt with the form of the page."""

    def send(text="Hello", key="test", model="echo", path="/dashboard/playground", **headers):
        page = operator.get("/dashboard/playground")
        _, fields = page.form("/playground")
        return operator.post(path, {**fields, "key": key, "model": model, "prompt": text}, **headers)

    return send


def test_the_answer_is_on_the_page_and_only_text(prompt):
    page = prompt("<b>Hello</b>")
    assert page.status == 200
    assert "You said: &lt;b&gt;Hello&lt;/b&gt;" in page.text
    assert "&lt;b&gt;Hello&lt;/b&gt;</textarea>" in page.text


def test_the_answer_is_streamed_to_a_script(prompt):
    answer = prompt("Hello", path="/dashboard/playground/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == "You said: Hello" and events[-1]["type"] == "response.completed"
    assert events[-1]["response"].get("store") is not True


def test_the_request_is_the_keys(gateway, prompt, operator):
    admin = ApiClient(gateway.url, gateway.environ["FLOWAY_ADMIN_TOKEN"])
    limits = {"name": "narrow", "models": ["other"]}
    assert admin.post(limits, "/admin/api/keys").status == 201
    page = prompt(key="narrow")
    assert "does not" in page.notice or "not available" in page.notice or "may not" in page.notice
    start = len(gateway.log)
    assert prompt(key="test").status == 200
    lines = gateway.wait_for_log("POST /dashboard/playground 200", start)
    (own,) = gateway.wait_for_log("POST /v1/responses 200", start)
    assert "key=test" in own and "outcome=completed" in own and "key=-" in lines[0]


@pytest.mark.parametrize("path", ["", "/stream"])
def test_a_key_that_is_gone_is_refused(prompt, path):
    answer = prompt(key="nobody", path=f"/dashboard/playground{path}")
    assert "unknown or revoked" in answer.text
    assert answer.status == (401 if path else 200)


def test_what_is_missing_is_said(prompt):
    page = prompt(text="")
    assert page.status == 400 and "Enter a prompt." in page.text
    answer = prompt(text="", path="/dashboard/playground/stream")
    assert json.loads(answer.text) == {"error": {"message": "Enter a prompt."}}


def test_a_viewer_sends_no_prompt(viewer):
    assert "only operators" in viewer.get("/dashboard/playground").text


def test_no_client_can_pretend_to_act_for_a_key(gateway):
    for name in ("floway.acting_key", "floway-acting-key", "floway_acting_key"):
        client = ApiClient(gateway.url, "", {name: "test"})
        assert client.create("Hi", model="echo").status == 401
