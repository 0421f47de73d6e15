"""The simulator answers like the backend it stands for, and refuses what does not look like the CLI."""

import base64
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import openai
import pytest
import zstandard
from floway_codex import simulator as sim
from floway_codex.simulator import bodies, fingerprint
from floway_codex.simulator.oauth import CLIENT_ID

JSON = Any
Headers = dict[str, str]

pytest_plugins = ["floway_codex.simulator.fixtures"]

RESPONSES, COMPACT = "/backend-api/codex/responses", "/backend-api/codex/responses/compact"
MODELS = "/backend-api/codex/models?client_version=0.169.0"
VERSIONS = ("0.142.0", "0.169.0", "0.169.0-lite")


# ---------------------------------------------------------------- requests in the recordings' shape
@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes

    def json(self) -> JSON:
        return json.loads(self.body)

    def events(self) -> list[JSON]:
        """The parsed events; each block is an event line and a data line that agree."""
        events = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            name, data = block.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        return events


def open_request(url: str, method: str, path: str, headers: Headers, body: bytes | None) -> http.client.HTTPConnection:
    """Send exactly these headers, in this order."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    return connection


def send(url: str, method: str, path: str, headers: Headers, body: JSON = None) -> Answer:
    """Send a request; a body that is not bytes goes as JSON, compressed where the headers say so."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        if headers.get("content-encoding") == "zstd":
            compressor = zstandard.ZstdCompressor().compressobj()
            body = compressor.compress(body) + compressor.flush()
    connection = open_request(url, method, path, headers, body)
    try:
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def turn_metadata(thread: str, kind: str, version: str) -> JSON:
    turn = str(uuid.uuid4())
    shared = {"installation_id": str(uuid.uuid4()), "session_id": thread, "thread_id": thread, "turn_id": turn,
              "window_id": f"{thread}:0", "request_kind": kind, "thread_source": "user", "sandbox": "seccomp"}
    return shared if version == "0.142.0" else {**shared, "window_number": 0, "root_turn_id": turn}


def dispatch(auth: JSON, version: str = "0.142.0", kind: str = "turn", said: str = "ping") -> tuple[Headers, JSON]:
    """Headers and body of a first dispatch as the CLI of that version sends it."""
    lite, version = version.endswith("-lite"), version.removesuffix("-lite")
    thread = str(uuid.uuid4())
    metadata = turn_metadata(thread, kind, version)
    text = json.dumps(metadata)
    headers = {
        "version": version, "x-codex-beta-features": "remote_compaction_v2", "x-codex-window-id": f"{thread}:0",
        "x-codex-turn-metadata": text, **({"x-openai-internal-codex-responses-lite": "true"} if lite else {}),
        "x-client-request-id": thread, "session-id": thread, "thread-id": thread, "accept": "text/event-stream",
        "content-encoding": "zstd", "content-type": "application/json",
        "authorization": f"Bearer {auth['tokens']['access_token']}",
        "chatgpt-account-id": auth["tokens"]["account_id"], "originator": "codex_exec",
        "user-agent": f"codex_exec/{version} (Debian 12.0.0; x86_64) xterm-256color (codex_exec; {version})",
    }
    client = {"session_id": thread, "thread_id": thread, "turn_id": metadata["turn_id"],
              "x-codex-window-id": f"{thread}:0", "x-codex-installation-id": metadata["installation_id"],
              "x-codex-turn-metadata": text}
    if version != "0.142.0":
        client |= {"root_turn_id": metadata["root_turn_id"], "mcp_attribution": '{"status":"none"}'}
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}
    developer = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are Codex"}]}
    tools = [{"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object"}}]
    body = {"model": "gpt-6.1-sol" if lite else "gpt-5.5", "input": [developer, user], "tool_choice": "auto",
            "parallel_tool_calls": not lite, "reasoning": {"effort": "low"}, "store": False, "stream": True,
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": thread, "text": {"verbosity": "low"},
            "client_metadata": client}
    if lite:
        body["input"].insert(0, {"type": "additional_tools", "id": f"at_{uuid.uuid4()}", "role": "developer",
                                 "tools": tools})
    else:
        body["tools"] = tools
    if version == "0.142.0":
        body["instructions"] = "You are Codex"
    return headers, body


def compact_request(auth: JSON) -> tuple[Headers, JSON]:
    """Headers and body of the unary compaction, as 0.142 sends it."""
    headers, body = dispatch(auth, kind="compaction")
    metadata = json.loads(headers["x-codex-turn-metadata"])
    for name in ("x-client-request-id", "content-encoding", "x-codex-beta-features"):
        del headers[name]
    headers |= {"x-codex-installation-id": metadata["installation_id"], "accept": "*/*"}
    return headers, {name: body[name] for name in bodies.ALLOWED_COMPACT if name in body}


def edited_metadata(headers: Headers, body: JSON, **changes: JSON) -> None:
    """Change the turn metadata on both surfaces; None removes a key."""
    metadata = json.loads(headers["x-codex-turn-metadata"]) | changes
    text = json.dumps({name: value for name, value in metadata.items() if value is not None})
    headers["x-codex-turn-metadata"] = body["client_metadata"]["x-codex-turn-metadata"] = text


@pytest.fixture
def backend(codex_simulator: sim.Simulator) -> sim.Simulator:
    return codex_simulator


@pytest.fixture
def auth(backend: sim.Simulator) -> JSON:
    return backend.new_account()


def post(backend: sim.Simulator, auth: JSON, version: str = "0.142.0", **more: JSON) -> Answer:
    headers, body = dispatch(auth, version)
    return send(backend.url, "POST", RESPONSES, headers, body | more)


# ---------------------------------------------------------------- what passes
@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_request_passes_and_is_echoed(backend: sim.Simulator, auth: JSON, version: str) -> None:
    headers, body = dispatch(auth, version, said="ping ☎\u2028")
    answer = send(backend.url, "POST", RESPONSES, headers, body)
    assert answer.status == 200, answer.body
    done = [event["item"] for event in answer.events() if event["type"] == "response.output_item.done"]
    assert [item["content"][0]["text"] for item in done] == ["You said: ping ☎\u2028"]
    (request,) = backend.requests
    assert (request.status, request.answered, request.body) == (200, "200 message completed", body)
    assert [name for name, _ in request.headers][1:-1] == list(headers)
    assert request.done.wait(5) and not request.client_gone.is_set()


def test_stream_shape(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(sim.reply(sim.reasoning("Thinking", chunks=2), sim.text("one two", chunks=3),
                             sim.function_call("shell", {"cmd": "ls"}), sim.custom_tool_call("apply_patch", "*** x"),
                             sim.compaction(), total_tokens=50000, cached_tokens=7))
    answer = post(backend, auth)
    events = answer.events()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["transfer-encoding"] == "chunked" and b"[DONE]" not in answer.body
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done",
        "output_item.added", "output_item.done", "completed"]
    final = events[-1]["response"]
    assert final["output"] == [] and final["status"] == "completed" and final["usage"]["total_tokens"] == 50000
    assert final["usage"]["input_tokens_details"] == {"cached_tokens": 7}
    assert final["id"] == events[0]["response"]["id"] and events[0]["response"]["status"] == "in_progress"
    kinds = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert kinds[0]["encrypted_content"] and kinds[2]["arguments"] == '{"cmd":"ls"}' and kinds[3]["input"] == "*** x"


def test_headers_of_a_200(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    first = send(backend.url, "POST", RESPONSES, headers, body)
    assert first.headers["x-codex-turn-state"] and first.headers["x-request-id"]
    assert first.headers["x-codex-plan-type"] == "pro" and first.headers["x-codex-credits-balance"] == ""
    assert int(first.headers["x-codex-primary-reset-at"]) > time.time()
    second = send(backend.url, "POST", RESPONSES, headers | {"x-codex-turn-state": "TS"}, body)
    assert "x-codex-turn-state" not in second.headers
    models = send(backend.url, "GET", MODELS, headers)
    assert models.headers["etag"] == first.headers["x-models-etag"]
    lite = {model["slug"]: model["use_responses_lite"] for model in models.json()["models"]}
    assert lite == {"gpt-5.5": False, "gpt-6.1-sol": True, "gpt-5.4": False, "gpt-5.4-mini": False}


def test_scripted_headers_replace_and_remove(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(sim.reply(headers={"x-models-etag": "other", "Content-Type": None}))
    answer = post(backend, auth)
    assert answer.headers["x-models-etag"] == "other" and "content-type" not in answer.headers


def test_trigger_gets_exactly_one_compaction(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth, kind="compaction")
    body["input"].append({"type": "compaction_trigger"})
    events = send(backend.url, "POST", RESPONSES, headers, body).events()
    assert [e["item"]["type"] for e in events if e["type"] == "response.output_item.done"] == ["compaction"]
    edited_metadata(headers, body, request_kind="turn")
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403


def test_unary_compaction(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = compact_request(auth)
    answer = send(backend.url, "POST", COMPACT, headers, body)
    assert answer.status == 200 and "x-codex-turn-state" not in answer.headers
    compacted = answer.json()
    assert compacted["object"] == "response.compaction" and compacted["usage"]["total_tokens"] > 0
    assert [item["type"] for item in compacted["output"]] == ["compaction"]
    refused = send(backend.url, "POST", COMPACT, headers, body | {"store": False})
    assert refused.json() == {"detail": "Unsupported parameter: store"}
    other = send(backend.url, "POST", COMPACT, headers | {"x-codex-installation-id": str(uuid.uuid4())}, body)
    assert other.status == 403 and b"x-codex-installation-id" in other.body


def test_scripted_function_and_refusals(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(lambda body: sim.reply(sim.text(body["model"])), sim.refusal(503, {"error": {"message": "busy"}}),
                   sim.html_403(), sim.reply(fail={"code": "rate_limit_exceeded", "message": "slow"}),
                   sim.reply(sim.text("x"), incomplete="max_output_tokens", empty_output=False))
    assert post(backend, auth).events()[4]["delta"] == "gpt-5.5"
    assert post(backend, auth).json() == {"error": {"message": "busy"}}
    page = post(backend, auth)
    assert page.status == 403 and page.headers["content-type"].startswith("text/html")
    assert post(backend, auth).events()[-1]["response"]["error"]["code"] == "rate_limit_exceeded"
    last = post(backend, auth).events()[-1]
    assert last["type"] == "response.incomplete" and len(last["response"]["output"]) == 1


def test_accounts_check(backend: sim.Simulator, auth: JSON) -> None:
    headers = {"authorization": f"Bearer {auth['tokens']['access_token']}"}
    answer = send(backend.url, "GET", "/backend-api/wham/accounts/check", headers)
    assert answer.json()["default_account_id"] == auth["tokens"]["account_id"]
    assert send(backend.url, "GET", "/backend-api/wham/settings/user", headers).status == 404


def test_websocket_is_refused_with_426(backend: sim.Simulator) -> None:
    assert send(backend.url, "GET", RESPONSES, {"connection": "Upgrade", "upgrade": "websocket"}).status == 426


# ---------------------------------------------------------------- refused as not the CLI
LEAKS = [pattern.replace("*", "thing") for pattern in fingerprint.FORBIDDEN + fingerprint.FORBIDDEN_ON_POST]


@pytest.mark.parametrize(("name", "value"), [
    *((name, "1") for name in LEAKS), ("accept-encoding", "gzip, deflate"), ("cookie", "__cf_bm=A; other=B"),
    ("user-agent", "python-requests/2.34.2"), ("user-agent", "codex_exec/next"), ("accept", "*/*"),
    ("content-type", "text/plain"), ("version", "0.1.0"), ("chatgpt-account-id", "another"),
    ("x-client-request-id", "another"), ("session-id", "another"), ("thread-id", "another"),
    ("x-codex-window-id", "another"), ("x-codex-turn-metadata", "{"), ("x-codex-turn-metadata", '{"a": "\xe9"}'),
    ("x-codex-parent-thread-id", "another"), ("x-openai-subagent", "review"),
    *((name, None) for name in fingerprint.WANTED[fingerprint.RESPONSES]), ("chatgpt-account-id", None),
])
def test_headers_unlike_the_cli(backend: sim.Simulator, auth: JSON, name: str, value: str | None) -> None:
    headers, body = dispatch(auth)
    headers = {key: kept for key, kept in {**headers, name: value}.items() if kept is not None}
    answer = send(backend.url, "POST", RESPONSES, headers, body)
    assert answer.status == 403 and answer.headers["content-type"].startswith("text/html")
    rule = backend.requests[0].answered.removeprefix("403 ")
    assert rule and f"<!-- simulator: {rule.partition(' ')[0]}".encode() in answer.body


@pytest.mark.parametrize("cookie", ["__cf_bm=A", "__cf_bm=A; _cfuvid=B; cf_clearance=C="])
def test_cloudflare_cookies_and_identity_encoding_pass(backend: sim.Simulator, auth: JSON, cookie: str) -> None:
    headers, body = dispatch(auth)
    headers |= {"cookie": cookie, "accept-encoding": "identity"}
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 200


@pytest.mark.parametrize("changes", [
    {"session_id": "another"}, {"thread_id": "another"}, {"window_id": "another:0"}, {"window_id": None},
    {"turn_id": ""}, {"turn_id": "another"}, {"installation_id": "device"}, {"installation_id": str(uuid.uuid1())},
    {"installation_id": str(uuid.uuid4())}, {"request_kind": "chat"}, {"request_kind": None}, {"window_number": 7},
    {"parent_thread_id": "another"}, {"root_turn_id": "another"},
])
def test_turn_metadata_that_disagrees(backend: sim.Simulator, auth: JSON, changes: JSON) -> None:
    headers, body = dispatch(auth)
    edited_metadata(headers, body, **changes)
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403
    assert next(iter(changes)) in backend.requests[0].answered


@pytest.mark.parametrize("key", [*fingerprint.CLIENT_HEADERS, *fingerprint.CLIENT_METADATA])
@pytest.mark.parametrize("value", [None, "another"])
def test_client_metadata_that_disagrees(backend: sim.Simulator, auth: JSON, key: str, value: str | None) -> None:
    headers, body = dispatch(auth)
    body["client_metadata"].pop(key)
    body["client_metadata"] |= {key: value} if value else {}
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403
    assert backend.requests[0].answered.startswith(f"403 client_metadata: {key}")


def test_client_metadata_must_be_there_and_hold_strings(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    body["client_metadata"]["extra"] = 1
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403
    del body["client_metadata"]
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 403
    assert [r.answered for r in backend.requests] == ["403 client_metadata: extra is not a string",
                                                      "403 client_metadata: missing"]


def test_models_check_less(backend: sim.Simulator, auth: JSON) -> None:
    headers = {name: value for name, value in dispatch(auth)[0].items()
               if name in ("authorization", "chatgpt-account-id", "originator", "user-agent")}
    assert send(backend.url, "GET", MODELS, headers).status == 200
    # the 0.142 TUI's first request
    tui = headers | {"originator": "codex_cli_rs", "user-agent": "codex-tui/0.142.0 (Debian 12.0.0; x86_64) tmux/3.3a"}
    assert send(backend.url, "GET", MODELS, tui).status == 200
    assert send(backend.url, "GET", MODELS, headers | {"user-agent": "curl/8"}).status == 403
    assert send(backend.url, "GET", MODELS.partition("?")[0], headers).status == 400


# ---------------------------------------------------------------- refused bodies
USER = {"type": "message", "role": "user", "content": "hi"}


@pytest.mark.parametrize(("changes", "detail"), [
    ({"store": True}, "Store must be set to false"), ({"stream": False}, "Stream must be set to true"),
    ({"instructions": ""}, "Instructions are required"), ({"input": "hi"}, "Input must be a list"),
    ({"input": [{"role": "system", "content": "x"}]}, "System messages are not allowed"),
    ({"model": "gpt-4"}, "The 'gpt-4' model is not supported when using Codex with a ChatGPT account."),
    ({"model": "gpt-6.1-sol"}, "The 'gpt-6.1-sol' model requires x-openai-internal-codex-responses-lite"),
    *(({name: None}, f"Unsupported parameter: {name}") for name in (
        "temperature", "top_p", "max_output_tokens", "metadata", "user", "truncation", "safety_identifier",
        "previous_response_id", "stream_options", "background")),
])
def test_bodies_refused_with_a_detail(backend: sim.Simulator, auth: JSON, changes: JSON, detail: str) -> None:
    answer = post(backend, auth, **changes)
    assert (answer.status, answer.json()) == (400, {"detail": detail})


@pytest.mark.parametrize(("version", "changes"), [
    ("0.169.0-lite", {"tools": [{"type": "function"}]}), ("0.169.0-lite", {"parallel_tool_calls": True}),
    ("0.169.0-lite", {"model": "gpt-5.5"}), ("0.169.0", {"input": [USER]}),
])
def test_each_version_keeps_its_own_form(backend: sim.Simulator, auth: JSON, version: str, changes: JSON) -> None:
    assert post(backend, auth, version, **changes).status == 400


@pytest.mark.parametrize(("item", "status"), [
    ({**USER, "id": "msg_" + "a" * 60}, 200), ({**USER, "id": "msg_" + "a" * 61}, 400),
    ({**USER, "id": "msg_ä"}, 400), ({**USER, "id": "rs_1"}, 400),
    ({"role": "user", "content": "hi", "id": "item_1"}, 400), ({**USER, "id": 7}, 400),
    *(({"type": kind, "id": f"{prefix}_1", "encrypted_content": "e"}, 200)
      for kind, prefix in bodies.ID_PREFIXES.items()),
    ({"type": "function_call_output", "call_id": "c" * 65, "output": ""}, 400),
    ({"type": "item_reference", "id": "msg_1"}, 404), ({"type": "reasoning", "id": "rs_1", "summary": []}, 404),
    ({"type": "something_new", "id": "new_1"}, 200),
])
def test_item_ids(backend: sim.Simulator, auth: JSON, item: JSON, status: int) -> None:
    answer = post(backend, auth, input=[item])
    assert answer.status == status
    assert status == 200 or answer.json()["error"]["message"]


def test_encodings(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    plain = {name: value for name, value in headers.items() if name != "content-encoding"}
    assert send(backend.url, "POST", RESPONSES, plain, body).status == 200
    assert send(backend.url, "POST", RESPONSES, headers | {"content-encoding": "gzip"}, b"x").status == 415
    assert send(backend.url, "POST", RESPONSES, headers, b"no zstd").status == 400
    assert send(backend.url, "POST", RESPONSES, plain, b"{").status == 400


# ---------------------------------------------------------------- accounts
def refresh(backend: sim.Simulator, refresh_token: str, **more: JSON) -> Answer:
    body = {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": refresh_token, **more}
    return send(backend.url, "POST", "/oauth/token", {"content-type": "application/json"}, body)


def claims(token: str) -> JSON:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_auth_json_holds_the_claims_the_cli_reads(backend: sim.Simulator) -> None:
    auth = backend.new_account("someone@example.com", "plus", access_lifetime=60)
    assert list(auth) == ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"]
    for name in ("id_token", "access_token"):
        token = claims(auth["tokens"][name])
        assert token["https://api.openai.com/auth"]["chatgpt_account_id"] == auth["tokens"]["account_id"]
        assert token["https://api.openai.com/auth"]["chatgpt_plan_type"] == "plus"
        assert token["https://api.openai.com/profile"]["email"] == "someone@example.com"
    assert claims(auth["tokens"]["access_token"])["exp"] <= time.time() + 60


def test_access_tokens(backend: sim.Simulator, auth: JSON) -> None:
    def code(answer: Answer) -> tuple[int, str]:
        return answer.status, answer.json()["error"]["code"]

    headers, body = dispatch(auth)
    assert send(backend.url, "POST", RESPONSES, headers | {"authorization": "Bearer nobody"}, body).status == 401
    assert send(backend.url, "POST", RESPONSES, {}, body).status == 401
    assert code(post(backend, backend.new_account(access_lifetime=-1))) == (401, "token_expired")
    backend.expire_access_tokens()
    assert code(post(backend, auth)) == (401, "token_expired")
    renewed = refresh(backend, auth["tokens"]["refresh_token"]).json()
    assert post(backend, {"tokens": auth["tokens"] | renewed}).status == 200
    backend.revoke(auth["tokens"]["account_id"])
    assert code(post(backend, auth)) == (401, "token_invalidated")
    assert code(refresh(backend, renewed["refresh_token"])) == (401, "refresh_token_invalidated")


def test_refresh_tokens_are_single_use(backend: sim.Simulator, auth: JSON) -> None:
    first = refresh(backend, auth["tokens"]["refresh_token"], refresh_reason="proactive_expiry")
    assert first.status == 200 and first.json()["expires_in"] == 3600
    for token, code in ((auth["tokens"]["refresh_token"], "refresh_token_reused"),
                        ("unknown", "refresh_token_invalidated")):
        again = refresh(backend, token)
        assert (again.status, again.json()["error"]["code"]) == (401, code)
    assert refresh(backend, first.json()["refresh_token"]).status == 200
    assert backend.refreshes == 2
    late = backend.new_account()["tokens"]["refresh_token"]
    backend.expire_refresh_tokens()
    assert refresh(backend, late).json()["error"]["code"] == "refresh_token_expired"


def test_of_concurrent_refreshes_one_wins(backend: sim.Simulator, auth: JSON) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(
        refresh(backend, auth["tokens"]["refresh_token"]).status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [401] * 7 and backend.refreshes == 1


def test_code_exchange_and_bad_token_requests(backend: sim.Simulator, auth: JSON) -> None:
    form = (f"grant_type=authorization_code&client_id={CLIENT_ID}&code={backend.new_authorization_code()}"
            "&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&code_verifier=v")

    def exchange(text: str) -> int:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return send(backend.url, "POST", "/oauth/token", headers, text.encode()).status

    assert exchange(form + "&state=s") == 400
    assert exchange(form) == 200
    assert exchange(form) == 400
    assert exchange(f"grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token=x") == 400
    assert exchange("grant_type=password") == 400
    assert refresh(backend, "").status == 400
    assert refresh(backend, auth["tokens"]["refresh_token"], client_id="other").status == 401


def test_the_sign_in_page_sends_the_browser_back_with_a_code_for_one_verifier(backend: sim.Simulator) -> None:
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of the verifier, both from RFC 7636
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    callback = "http://localhost:1455/auth/callback"
    parameters = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": callback,
        "scope": "openid profile email offline_access",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "state": "some-state",
        "originator": "codex_cli_rs",
    }

    def authorize(**changes: str | None) -> Answer:
        query = urlencode({name: value for name, value in {**parameters, **changes}.items() if value is not None})
        return send(backend.url, "GET", f"/oauth/authorize?{query}", {})

    def exchange(answer: Answer, **changes: str) -> int:
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert answer.status == 302 and back["state"] == ["some-state"]
        form = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "code": back["code"][0],
                "redirect_uri": callback, "code_verifier": verifier, **changes}
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return send(backend.url, "POST", "/oauth/token", headers, urlencode(form).encode()).status

    assert exchange(authorize()) == 200
    assert exchange(authorize(), code_verifier=challenge) == 400
    assert exchange(authorize(), redirect_uri="http://localhost:1/auth/callback") == 400
    for name in parameters:
        assert authorize(**{name: None}).status == 400
        if name != "originator":
            assert authorize(**{name: "other"}).status == 400
    assert authorize(prompt="login").status == 400
    backend.deny_sign_ins()
    assert "error=access_denied" in authorize().headers["location"]


def test_quota(backend: sim.Simulator, auth: JSON) -> None:
    account = auth["tokens"]["account_id"]
    backend.use_up_quota(account, resets_in=120)
    answer = post(backend, auth)
    error = answer.json()["error"]
    assert answer.status == 429 and error["type"] == "usage_limit_reached" and 0 < error["resets_in_seconds"] <= 120
    assert answer.headers["x-codex-primary-used-percent"] == "100"
    assert answer.headers["x-codex-primary-reset-at"] == str(error["resets_at"])
    assert post(backend, backend.new_account()).status == 200
    backend.restore_quota(account)
    assert post(backend, auth).status == 200
    backend.use_up_quota(account, resets_in=-1)
    assert post(backend, auth).status == 200


# ---------------------------------------------------------------- broken and silent answers
def test_cut_breaks_the_connection(backend: sim.Simulator, auth: JSON) -> None:
    backend.script(sim.reply(sim.text("x"), cut_after=3), sim.reply(sim.text("x"), cut_after=3, clean_cut=True))
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(backend, auth)
    assert len(Answer(200, {}, caught.value.partial).events()) == 3
    assert len(post(backend, auth).events()) == 3


@pytest.mark.parametrize("step", [
    sim.hang(), sim.hang(before_headers=False), sim.reply(sim.text("x"), hang_after=4),
    sim.reply(sim.text("x", delay=3600)), sim.reply(sim.text("x"), event_delay=3600),
])
def test_hang_up_is_noticed(backend: sim.Simulator, auth: JSON, step: Any) -> None:
    backend.script(step)
    headers, body = dispatch(auth)
    del headers["content-encoding"]
    connection = open_request(backend.url, "POST", RESPONSES, headers, json.dumps(body).encode())
    (request,) = backend.wait_for_requests(1)
    response = None if step == sim.hang() else connection.getresponse()
    assert not request.client_gone.is_set()
    connection.close()  # the socket itself is closed with the response, when there is one
    if response is not None:
        response.close()
    assert request.client_gone.wait(5) and request.done.wait(5)


def test_stop_ends_silent_answers() -> None:
    backend = sim.Simulator().start()
    backend.script(sim.hang())
    headers, body = dispatch(backend.new_account())
    del headers["content-encoding"]
    connection = open_request(backend.url, "POST", RESPONSES, headers, json.dumps(body).encode())
    (request,) = backend.wait_for_requests(1)
    backend.stop()
    assert request.done.wait(5) and not request.client_gone.is_set()
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", backend.port), timeout=1)


def test_keeps_connections_alive(backend: sim.Simulator, auth: JSON) -> None:
    connection = http.client.HTTPConnection(backend.url.removeprefix("http://"), timeout=5)
    for _ in range(2):
        headers, body = dispatch(auth)
        del headers["content-encoding"]
        connection.putrequest("POST", RESPONSES, skip_accept_encoding=True)
        text = json.dumps(body).encode()
        for name, value in (headers | {"content-length": str(len(text))}).items():
            connection.putheader(name, value)
        connection.endheaders(text)
        own_port = connection.sock.getsockname()[1]
        assert connection.getresponse().read()
        assert connection.sock.getsockname()[1] == own_port
    connection.close()


# ---------------------------------------------------------------- other processes and clients
def control(backend: sim.Simulator, method: str, name: str, body: JSON = None) -> Answer:
    return send(backend.url, method, f"/simulator/{name}", {"content-type": "application/json"}, body)


def test_control_surface(backend: sim.Simulator) -> None:
    auth = control(backend, "POST", "accounts", {"email": "a@example.com", "plan": "plus"}).json()
    account = auth["tokens"]["account_id"]
    script = [{"reply": [{"reasoning": None}, {"text": "one", "chunks": 2},
                         {"function_call": "f", "arguments": {"a": 1}}, {"custom_tool_call": "g", "input": "x"},
                         {"compaction": None}, {"item": {"type": "web_search_call", "id": "ws_1"}}],
               "total_tokens": 9, "headers": {"x-test": "1"}},
              {"refusal": 500, "body": {"error": {"message": "oops"}}}, {"html_403": None}]
    assert control(backend, "POST", "script", script).status == 204
    answer = post(backend, auth)
    kinds = [e["item"]["type"] for e in answer.events() if e["type"] == "response.output_item.done"]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call", "compaction", "web_search_call"]
    assert answer.headers["x-test"] == "1" and answer.events()[-1]["response"]["usage"]["total_tokens"] == 9
    assert [post(backend, auth).status, post(backend, auth).status] == [500, 403]
    log = control(backend, "GET", "requests").json()
    assert [entry["status"] for entry in log] == [200, 500, 403] and log[0]["body"]["model"] == "gpt-5.5"
    assert log[0]["headers"][1] == ["version", "0.142.0"] and log[0]["client_gone"] is False
    for body, status in (({"account_id": account, "resets_in": 60}, 429), ({"account_id": account}, 200)):
        assert control(backend, "POST", "quota", body).status == 204
        assert post(backend, auth).status == status
    assert control(backend, "POST", "expire").status == 204
    assert post(backend, auth).status == 401
    assert control(backend, "POST", "revoke", {"account_id": account}).status == 204
    assert control(backend, "DELETE", "requests").status == 204
    assert control(backend, "GET", "requests").json() == []


@pytest.mark.parametrize(("name", "body"), [
    ("script", {}), ("script", [{}]), ("script", [{"reply": [{}]}]), ("script", [{"reply": [], "unknown": 1}]),
    ("script", [{"reply": [], "hang": True}]), ("script", [7]), ("accounts", {"unknown": 1}), ("quota", None),
    ("quota", {"account_id": "nobody", "resets_in": 1}), ("revoke", {}), ("script", b"{"),
])
def test_control_surface_refuses_what_it_does_not_know(backend: sim.Simulator, name: str, body: JSON) -> None:
    answer = control(backend, "POST", name, body)
    assert answer.status == 400 and answer.json()["detail"]
    assert control(backend, "POST", "nothing").status == 404


def test_openai_package_parses_the_stream(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    del headers["content-encoding"], headers["authorization"]

    def strip(request: Any) -> None:
        for name in [name for name in request.headers if name.startswith("x-stainless-") or name == "accept-encoding"]:
            del request.headers[name]

    backend.script(sim.reply(sim.reasoning("Hm"), sim.text("one two", chunks=2), sim.function_call("f", {"a": 1}),
                             sim.custom_tool_call("g", "x")))
    with openai.OpenAI(
        base_url=f"{backend.base_url}/codex", api_key=auth["tokens"]["access_token"], default_headers=headers,
        http_client=openai.DefaultHttpxClient(event_hooks={"request": [strip]}), max_retries=0,
    ) as client:
        extra = {"client_metadata": body.pop("client_metadata")}
        events = list(client.responses.create(**body, extra_body=extra))
    assert all(type(event).__name__.startswith("Response") for event in events)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two"
    assert events[-1].response.usage.total_tokens == \
        events[-1].response.usage.input_tokens + events[-1].response.usage.output_tokens


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    auth_file = tmp_path / "auth.json"
    auth_file.write_text("old")
    auth_file.chmod(0o644)
    code = ("from pathlib import Path; from floway_codex.simulator import serve; "
            f"serve('127.0.0.1', 0, Path({str(auth_file)!r}))")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    yield process, auth_file
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_a_signal(served: tuple[subprocess.Popen[str], Path], number: int) -> None:
    process, auth_file = served
    base_url, auth_url, shown = (process.stdout.readline().rstrip("\n") for _ in range(3))
    assert shown == str(auth_file) and stat.S_IMODE(auth_file.stat().st_mode) == 0o600
    url = base_url.removesuffix("/backend-api")
    assert auth_url == f"{url}/oauth/token"
    headers, body = dispatch(json.loads(auth_file.read_text()))
    assert send(url, "POST", RESPONSES, headers, body).status == 200
    process.send_signal(number)
    assert process.wait(5) == 0
