"""The simulator refuses what does not look like the CLI, and bodies that the backend would not take."""

import uuid

import pytest
from floway_codex import simulator as sim
from floway_codex.simulator import bodies, fingerprint

from .backend_client import JSON, MODELS, RESPONSES, dispatch, edited_metadata, post, send

# ---------------------------------------------------------------- refused as not the CLI
LEAKS = [pattern.replace("*", "thing") for pattern in fingerprint.FORBIDDEN_HEADERS + fingerprint.FORBIDDEN_ON_POST]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "1") for name in LEAKS),
        ("accept-encoding", "gzip, deflate"),
        ("cookie", "__cf_bm=A; other=B"),
        ("user-agent", "python-requests/2.34.2"),
        ("user-agent", "codex_exec/next"),
        ("accept", "*/*"),
        ("content-type", "text/plain"),
        ("version", "0.1.0"),
        ("chatgpt-account-id", "another"),
        ("session-id", "another"),
        ("thread-id", "another"),
        ("x-codex-window-id", "another"),
        ("x-codex-turn-metadata", "{"),
        ("x-codex-turn-metadata", '{"a": "\xe9"}'),
        ("x-codex-parent-thread-id", "another"),
        ("x-openai-subagent", "review"),
        *((name, None) for name in fingerprint.REQUIRED_HEADERS[fingerprint.RESPONSES]),
        ("chatgpt-account-id", None),
    ],
)
def test_headers_unlike_the_cli(backend: sim.Simulator, auth: JSON, name: str, value: str | None) -> None:
    headers, body = dispatch(auth)
    headers = {key: kept for key, kept in {**headers, name: value}.items() if kept is not None}
    answer = send(backend.url, "POST", RESPONSES, headers, body)
    assert answer.status == 403 and answer.headers["content-type"].startswith("text/html")
    rule = backend.requests[0].answered.removeprefix("403 ")
    assert rule and f"<!-- simulator: {rule.partition(' ')[0]}".encode() in answer.body


def test_a_client_request_id_of_its_own_passes(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    assert send(backend.url, "POST", RESPONSES, {**headers, "x-client-request-id": "mine"}, body).status == 200


@pytest.mark.parametrize("cookie", ["__cf_bm=A", "__cf_bm=A; _cfuvid=B; cf_clearance=C="])
def test_cloudflare_cookies_and_identity_encoding_pass(backend: sim.Simulator, auth: JSON, cookie: str) -> None:
    headers, body = dispatch(auth)
    headers |= {"cookie": cookie, "accept-encoding": "identity"}
    assert send(backend.url, "POST", RESPONSES, headers, body).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": "another"},
        {"thread_id": "another"},
        {"window_id": "another:0"},
        {"window_id": None},
        {"turn_id": ""},
        {"turn_id": "another"},
        {"installation_id": "device"},
        {"installation_id": str(uuid.uuid1())},
        {"installation_id": str(uuid.uuid4())},
        {"request_kind": "chat"},
        {"request_kind": None},
        {"window_number": 7},
        {"parent_thread_id": "another"},
        {"root_turn_id": "another"},
    ],
)
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
    assert [r.answered for r in backend.requests] == [
        "403 client_metadata: extra is not a string",
        "403 client_metadata: missing",
    ]


def test_models_check_less(backend: sim.Simulator, auth: JSON) -> None:
    headers = {
        name: value
        for name, value in dispatch(auth)[0].items()
        if name in ("authorization", "chatgpt-account-id", "originator", "user-agent")
    }
    assert send(backend.url, "GET", MODELS, headers).status == 200
    # the 0.142 TUI's first request
    tui = headers | {"originator": "codex_cli_rs", "user-agent": "codex-tui/0.142.0 (Debian 12.0.0; x86_64) tmux/3.3a"}
    assert send(backend.url, "GET", MODELS, tui).status == 200
    assert send(backend.url, "GET", MODELS, headers | {"user-agent": "curl/8"}).status == 403
    assert send(backend.url, "GET", MODELS.partition("?")[0], headers).status == 400


# ---------------------------------------------------------------- refused bodies
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"store": True}, "Store must be set to false"),
        ({"stream": False}, "Stream must be set to true"),
        ({"instructions": ""}, "Instructions are required"),
        ({"input": "hi"}, "Input must be a list"),
        ({"input": [{"role": "system", "content": "x"}]}, "System messages are not allowed"),
        ({"model": "gpt-4"}, "The 'gpt-4' model is not supported when using Codex with a ChatGPT account."),
        ({"model": "gpt-6.1-sol"}, "The 'gpt-6.1-sol' model requires x-openai-internal-codex-responses-lite"),
        *(
            ({name: None}, f"Unsupported parameter: {name}")
            for name in (
                "temperature",
                "top_p",
                "max_output_tokens",
                "metadata",
                "user",
                "truncation",
                "safety_identifier",
                "previous_response_id",
                "stream_options",
                "background",
            )
        ),
    ],
)
def test_bodies_refused_with_a_detail(backend: sim.Simulator, auth: JSON, changes: JSON, detail: str) -> None:
    answer = post(backend, auth, **changes)
    assert (answer.status, answer.json()) == (400, {"detail": detail})


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("0.169.0-lite", {"tools": [{"type": "function"}]}),
        ("0.169.0-lite", {"parallel_tool_calls": True}),
        ("0.169.0-lite", {"model": "gpt-5.5"}),
        ("0.169.0", {"input": [USER]}),
    ],
)
def test_each_version_keeps_its_own_form(backend: sim.Simulator, auth: JSON, version: str, changes: JSON) -> None:
    assert post(backend, auth, version, **changes).status == 400


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({**USER, "id": "msg_" + "a" * 60}, 200),
        ({**USER, "id": "msg_" + "a" * 61}, 400),
        ({**USER, "id": "msg_ä"}, 400),
        ({**USER, "id": "rs_1"}, 400),
        ({"role": "user", "content": "hi", "id": "item_1"}, 400),
        ({**USER, "id": 7}, 400),
        *(
            ({"type": kind, "id": f"{prefix}_1", "encrypted_content": "e"}, 200)
            for kind, prefix in bodies.ID_PREFIXES.items()
        ),
        ({"type": "function_call_output", "call_id": "c" * 65, "output": ""}, 400),
        ({"type": "item_reference", "id": "msg_1"}, 404),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, 404),
        ({"type": "something_new", "id": "new_1"}, 200),
    ],
)
def test_item_ids(backend: sim.Simulator, auth: JSON, item: JSON, status: int) -> None:
    answer = post(backend, auth, input=[item])
    assert answer.status == status
    assert status == 200 or answer.json()["error"]["message"]


# ---------------------------------------------------------------- refused values
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "done"}


def image(url: JSON) -> JSON:
    return {"input": [{**USER, "content": [{"type": "input_image", "image_url": url}]}]}


def items(*given: JSON) -> JSON:
    return {"input": [USER, *given]}


def part(kind: str, role: str = "user", **more: JSON) -> JSON:
    return {"input": [{**USER, "role": role, "content": [{"type": kind, "text": "x", **more}]}]}


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        *(
            ({"service_tier": tier}, f"Unsupported service_tier: {tier}")
            for tier in ("auto", "default", "flex", "fast", "scale", None)
        ),
        ({"reasoning": {"effort": "extreme"}}, "Invalid value: 'extreme'. Supported values are: 'none', 'minimal', "),
        ({"reasoning": {"effort": "minimal"}}, "Unsupported value: 'minimal' is not supported with the 'gpt-5.5' mod"),
        ({"reasoning": {"summary": "none"}}, "Invalid value: 'none'. Supported values are: 'auto', 'concise', and"),
        ({"text": {"verbosity": "long"}}, "Invalid value: 'long'. Supported values are: 'low', 'medium', and 'high'."),
        ({"text": {"format": {"type": "xml"}}}, "Invalid value: 'xml'. "),
        ({"include": ["message.output_text.logprobs"]}, "Invalid value: 'message.output_text.logprobs'. "),
        ({"prompt_cache_key": "k" * 65}, "Invalid 'prompt_cache_key': string too long. "),
        ({"tools": [{"type": "mcp"}]}, "Unsupported tool type: mcp"),
        ({"tools": [{"name": "f"}]}, "Unsupported tool type: None"),
        ({"tools": [{"type": "function"}]}, "Missing required parameter: 'tools[0].name'."),
        ({"tools": [{"type": "function", "name": "a b"}]}, "Invalid 'tools[0].name': string does not match pattern. "),
        ({"tools": [{"type": "function", "name": "f", "strict": None}]}, "Invalid type for 'tools[0].strict': "),
        ({"tool_choice": "any"}, "Invalid value: 'any'. Supported values are: 'none', 'auto', and 'required'."),
        ({"tool_choice": {"type": "web_search"}}, "Tool choice 'web_search' not found in 'tools' parameter."),
        (items({**USER, "role": "tool"}), "Invalid value: 'tool'. Supported values are: 'assistant', "),
        (items({**USER, "content": "hi"}), "Invalid type for 'input[1].content': expected an array "),
        (items({"role": "user", "content": []}), "Missing required parameter: 'input[1].type'."),
        (items({**USER, "status": None}), "Invalid type for 'input[1].status': "),
        (items({**USER, "status": "done"}), "Invalid value: 'done'. Supported values are: 'in_progress', "),
        (part("output_text"), "Invalid value: 'output_text'. Supported values are: 'input_text', 'input_image', and "),
        (part("input_text", "assistant"), "Invalid value: 'input_text'. Supported values are: 'output_text' and 'ref"),
        (part("text"), "Invalid value: 'text'. "),
        (part("input_audio"), "Unsupported content type"),
        (part("input_text", logprobs=None), "Invalid type for 'input[0].content[0].logprobs': "),
        (image({"url": "x"}), "Invalid type for 'input[0].content[0].image_url': "),
        (image("cat.png"), "Invalid 'input[0].content[0].image_url'. Expected a valid URL, "),
        (image("data:image;base64,aGk="), "got unsupported MIME type 'image'."),
        (image("data:image/png;base64,"), "got empty base64-encoded bytes."),
        (image("data:image/png;base64,data:image/png;base64,aGk="), "got an invalid base64-encoded value."),
        (items({**USER, "id": "msg_1"}, {**USER, "id": "msg_1"}), "Duplicate item found with id msg_1. Remove "),
        (items(OUTPUT), "No tool call found for function call output with call_id call_1."),
        (items(CALL), "No tool output found for function call call_1."),
        (items({**CALL, "name": ""}, OUTPUT), "Invalid 'input[1].name': empty string. "),
        (
            items(CALL, {**OUTPUT, "output": [{"type": "output_text", "text": "x"}]}),
            "Invalid value: 'output_text'. ",
        ),
        (
            items({"type": "reasoning", "encrypted_content": "e", "summary": [], "content": [{"type": "text"}]}),
            "Invalid 'input[1].content': array too long. Expected an array with maximum length 0, ",
        ),
        (
            items({"type": "web_search_call", "action": {"type": "other"}}),
            "Invalid value: 'other'. Supported values are: 'search', 'open_page', and 'find_in_page'.",
        ),
    ],
)
def test_values_that_are_refused(backend: sim.Simulator, auth: JSON, changes: JSON, refusal: str) -> None:
    answer = post(backend, auth, **changes)
    assert answer.status == 400, answer.body
    said = answer.json()
    assert refusal in (said.get("detail") or said["error"]["message"])


@pytest.mark.parametrize(
    "changes",
    [
        {"service_tier": "priority"},
        {"reasoning": {"effort": "xhigh", "summary": "detailed"}},
        {"text": {"verbosity": "high", "format": {"type": "json_object"}}},
        {"include": ["reasoning.encrypted_content", "web_search_call.action.sources"]},
        {"tools": [{"type": "web_search"}, {"type": "something_new"}], "tool_choice": "required"},
        image("data:image/png;base64,aGk="),
        image("https://example.com/cat.png"),
        items(CALL, OUTPUT),
        items({"type": "reasoning", "encrypted_content": "e", "summary": [], "content": None}),
    ],
)
def test_values_that_pass(backend: sim.Simulator, auth: JSON, changes: JSON) -> None:
    assert post(backend, auth, **changes).status == 200


def test_encodings(backend: sim.Simulator, auth: JSON) -> None:
    headers, body = dispatch(auth)
    plain = {name: value for name, value in headers.items() if name != "content-encoding"}
    assert send(backend.url, "POST", RESPONSES, plain, body).status == 200
    assert send(backend.url, "POST", RESPONSES, headers | {"content-encoding": "gzip"}, b"x").status == 415
    assert send(backend.url, "POST", RESPONSES, headers, b"no zstd").status == 400
    assert send(backend.url, "POST", RESPONSES, plain, b"{").status == 400
