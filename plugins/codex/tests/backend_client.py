"""Requests to the simulated backend, in the shape of the recordings, sent as they are."""

import http.client
import json
import uuid
from dataclasses import dataclass
from typing import Any

import zstandard
from floway_codex import simulator as sim
from floway_codex.simulator import bodies

JSON = Any
Headers = dict[str, str]


RESPONSES, COMPACT = "/backend-api/codex/responses", "/backend-api/codex/responses/compact"
MODELS = "/backend-api/codex/models?client_version=0.169.0"
VERSIONS = ("0.142.0", "0.169.0", "0.169.0-lite")


@dataclass
class BackendResponse:
    status: int
    headers: Headers
    body: bytes

    def json(self) -> JSON:
        return json.loads(self.body)

    def events(self) -> list[JSON]:
        """The parsed events of the API, without the one about the account."""
        return [event for event in self.all_events() if event["type"] != "codex.rate_limits"]

    def all_events(self) -> list[JSON]:
        """The parsed events; each block is an event line and a data line that agree."""
        events = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            name, data = block.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        return events


def open_request(url: str, method: str, path: str, headers: Headers, body: bytes | None) -> http.client.HTTPConnection:
    """Send exactly these headers, in this order."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    return connection


def send(url: str, method: str, path: str, headers: Headers, body: JSON = None) -> BackendResponse:
    """Send a request; a body that is not bytes goes as JSON, compressed where the headers say so."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        if headers.get("content-encoding") == "zstd":
            compressor = zstandard.ZstdCompressor().compressobj()
            body = compressor.compress(body) + compressor.flush()
    connection = open_request(url, method, path, headers, body)
    try:
        response = connection.getresponse()
        return BackendResponse(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def turn_metadata(thread: str, kind: str, version: str) -> JSON:
    turn = str(uuid.uuid4())
    shared = {
        "installation_id": str(uuid.uuid4()),
        "session_id": thread,
        "thread_id": thread,
        "turn_id": turn,
        "window_id": f"{thread}:0",
        "request_kind": kind,
        "thread_source": "user",
        "sandbox": "seccomp",
    }
    return shared if version == "0.142.0" else {**shared, "window_number": 0, "root_turn_id": turn}


def dispatch(auth: JSON, version: str = "0.142.0", kind: str = "turn", said: str = "ping") -> tuple[Headers, JSON]:
    """Headers and body of a first dispatch as the CLI of that version sends it."""
    lite, version = version.endswith("-lite"), version.removesuffix("-lite")
    thread = str(uuid.uuid4())
    metadata = turn_metadata(thread, kind, version)
    text = json.dumps(metadata)
    headers = {
        "version": version,
        "x-codex-beta-features": "remote_compaction_v2",
        "x-codex-window-id": f"{thread}:0",
        "x-codex-turn-metadata": text,
        **({"x-openai-internal-codex-responses-lite": "true"} if lite else {}),
        "x-client-request-id": thread,
        "session-id": thread,
        "thread-id": thread,
        "accept": "text/event-stream",
        "content-encoding": "zstd",
        "content-type": "application/json",
        "authorization": f"Bearer {auth['tokens']['access_token']}",
        "chatgpt-account-id": auth["tokens"]["account_id"],
        "originator": "codex_exec",
        "user-agent": f"codex_exec/{version} (Debian 12.0.0; x86_64) xterm-256color (codex_exec; {version})",
    }
    client = {
        "session_id": thread,
        "thread_id": thread,
        "turn_id": metadata["turn_id"],
        "x-codex-window-id": f"{thread}:0",
        "x-codex-installation-id": metadata["installation_id"],
        "x-codex-turn-metadata": text,
    }
    if version != "0.142.0":
        client |= {"root_turn_id": metadata["root_turn_id"], "mcp_attribution": '{"status":"none"}'}
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}
    developer = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are Codex"}]}
    tools = [{"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object"}}]
    body = {
        "model": "gpt-6.1-sol" if lite else "gpt-5.5",
        "input": [developer, user],
        "tool_choice": "auto",
        "parallel_tool_calls": not lite,
        "reasoning": {"effort": "low"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": thread,
        "text": {"verbosity": "low"},
        "client_metadata": client,
    }
    if lite:
        body["input"].insert(
            0, {"type": "additional_tools", "id": f"at_{uuid.uuid4()}", "role": "developer", "tools": tools}
        )
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


def post(backend: sim.Simulator, auth: JSON, version: str = "0.142.0", **more: JSON) -> BackendResponse:
    headers, body = dispatch(auth, version)
    return send(backend.url, "POST", RESPONSES, headers, body | more)
