"""The fingerprint of the CLI: tables from recordings, and the rules that a request must satisfy."""

import fnmatch
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

JSON = Any
HeaderList = list[tuple[str, str]]

RESPONSES, COMPACT, MODELS = "responses", "responses/compact", "models"

ANY: None = None
IDENTITY: dict[str, tuple[str, ...] | None] = {"originator": ANY, "user-agent": ANY}
THREAD: dict[str, tuple[str, ...] | None] = {
    "session-id": ANY,
    "thread-id": ANY,
    "x-codex-window-id": ANY,
    "x-codex-turn-metadata": ANY,
}

# endpoint -> header -> the values it may have
REQUIRED_HEADERS: dict[str, dict[str, tuple[str, ...] | None]] = {
    RESPONSES: {
        **IDENTITY,
        **THREAD,
        "x-client-request-id": ANY,
        "accept": ("text/event-stream",),
        "content-type": ("application/json",),
    },
    COMPACT: {
        **IDENTITY,
        **THREAD,
        "x-codex-installation-id": ANY,
        "accept": ("*/*", "application/json"),
        "content-type": ("application/json",),
    },
    MODELS: IDENTITY,
}

# Traces of an edge, a proxy, an SDK or another gateway; the CLI sends none of them.
FORBIDDEN_HEADERS = (
    "x-forwarded-*",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "cf-*",
    "cdn-loop",
    "x-envoy-*",
    "x-amzn-*",
    "x-b3-*",
    "traceparent",
    "tracestate",
    "baggage",
    "x-stainless-*",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "anthropic-*",
    "openai-organization",
    "openai-project",
    "idempotency-key",
    "session_id",
    "conversation_id",
    "x-floway-*",
)
FORBIDDEN_ON_POST = ("openai-beta",)  # only the websocket handshake carries it
ACCEPT_ENCODINGS = ("identity", "zstd,gzip")  # the CLI sends none before 0.171; identity means the same
CLOUDFLARE_COOKIES = ("__cf_bm", "_cfuvid", "cf_clearance")

# Values that must agree: turn metadata key -> header, client_metadata key -> header, client_metadata key -> turn
# metadata key.
METADATA_HEADERS = {"session_id": "session-id", "thread_id": "thread-id", "window_id": "x-codex-window-id"}
CLIENT_HEADERS = {
    "session_id": "session-id",
    "thread_id": "thread-id",
    "x-codex-window-id": "x-codex-window-id",
    "x-codex-turn-metadata": "x-codex-turn-metadata",
}
CLIENT_METADATA = {"turn_id": "turn_id", "x-codex-installation-id": "installation_id"}
# The same for what only some threads send: present in both places or in none.
OPTIONAL_METADATA_HEADERS = {"parent_thread_id": "x-codex-parent-thread-id"}
OPTIONAL_CLIENT_HEADERS = {
    "x-codex-parent-thread-id": "x-codex-parent-thread-id",
    "x-openai-subagent": "x-openai-subagent",
}
OPTIONAL_CLIENT_METADATA = {"root_turn_id": "root_turn_id", "parent_turn_id": "parent_turn_id"}

REQUEST_KINDS = {RESPONSES: ("turn", "compaction", "prewarm", "memory"), COMPACT: ("compaction",)}


def broken_rule(endpoint: str, headers: HeaderList, body: JSON) -> str | None:
    """The first rule that a request breaks, in words; None if it looks like one of the CLI. body: the decoded JSON."""
    return next(broken_rules(endpoint, headers, body), None)


def broken_rules(endpoint: str, headers: HeaderList, body: JSON) -> Iterator[str]:
    """Every broken rule. Later rules are only meaningful while the earlier ones hold."""
    names = [name.lower() for name, _ in headers]
    values = dict(zip(names, (value for _, value in headers), strict=True))
    yield from (f"{name}: sent twice" for name in dict.fromkeys(names) if names.count(name) > 1)
    yield from leaks(endpoint, values)
    yield from (f"{name}: missing" for name in REQUIRED_HEADERS[endpoint] if not values.get(name))
    for name, allowed in REQUIRED_HEADERS[endpoint].items():
        if allowed and values.get(name, allowed[0]) not in allowed:
            yield f"{name}: must be {' or '.join(allowed)}"
    yield from client_identity(endpoint, values)
    if endpoint != MODELS:
        yield from thread_identity(endpoint, values, body)


def leaks(endpoint: str, values: dict[str, str]) -> Iterator[str]:
    """Headers that the CLI never sends."""
    forbidden = FORBIDDEN_HEADERS if endpoint == MODELS else FORBIDDEN_HEADERS + FORBIDDEN_ON_POST
    for name, value in values.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in forbidden):
            yield f"{name}: not a header of the CLI"
        if name == "accept-encoding" and value not in ACCEPT_ENCODINGS:
            yield "accept-encoding: not one that the CLI sends"
        if name == "cookie":
            cookies = (cookie.partition("=")[0].strip() for cookie in value.split(";"))
            yield from (
                f"cookie: {cookie} is not Cloudflare's" for cookie in cookies if cookie not in CLOUDFLARE_COOKIES
            )


def client_identity(endpoint: str, values: dict[str, str]) -> Iterator[str]:
    """`user-agent` starts with the originator and names a version."""
    originator, agent = values.get("originator", ""), values.get("user-agent", "")
    # The 0.142 TUI's first /models request says originator codex_cli_rs and user-agent codex-tui/...
    early_tui = endpoint == MODELS and originator == "codex_cli_rs" and agent.startswith("codex")
    if not agent.startswith(f"{originator}/") and not early_tui:
        yield "user-agent: must start with the originator and a slash"
    version = cli_version(agent)
    if version is None:
        yield "user-agent: no version after the slash"
    elif "version" in values and values["version"] != ".".join(map(str, version)):
        yield "version: not the version in the user-agent"


def thread_identity(endpoint: str, values: dict[str, str], body: JSON) -> Iterator[str]:
    """Session, thread, window, turn and installation must agree in all places."""
    thread = values.get("thread-id", "")
    window = re.fullmatch(r"(.+):(0|[1-9][0-9]*)", values.get("x-codex-window-id", ""))
    if window is None or window[1] != thread:
        yield "x-codex-window-id: must be <thread-id>:<number>"
        return
    metadata = json_object(values.get("x-codex-turn-metadata", ""))
    if metadata is None:
        yield "x-codex-turn-metadata: must be a JSON object in ASCII"
        return
    yield from metadata_rules(endpoint, values, metadata)
    if metadata.get("window_number", int(window[2])) != int(window[2]):
        yield "x-codex-turn-metadata: window_number is not the number in window_id"
    trigger = isinstance(body, dict) and ends_with_trigger(body.get("input"))
    if trigger and metadata.get("request_kind") != "compaction":
        yield "x-codex-turn-metadata: request_kind must be compaction, the input ends with a compaction_trigger"
    if endpoint == RESPONSES:
        yield from client_metadata_rules(
            values, metadata, body.get("client_metadata") if isinstance(body, dict) else None
        )


def metadata_rules(endpoint: str, values: dict[str, str], metadata: JSON) -> Iterator[str]:
    """The x-codex-turn-metadata header against the other headers."""
    for key, header in {**METADATA_HEADERS, **OPTIONAL_METADATA_HEADERS}.items():
        if metadata.get(key) != values.get(header):
            yield f"x-codex-turn-metadata: {key} is not {header}"
    if not is_uuid4(metadata.get("installation_id")):
        yield "x-codex-turn-metadata: installation_id must be a UUIDv4"
    if endpoint == COMPACT and metadata.get("installation_id") != values.get("x-codex-installation-id"):
        yield "x-codex-turn-metadata: installation_id is not x-codex-installation-id"
    if not isinstance(metadata.get("turn_id"), str) or not metadata["turn_id"]:
        yield "x-codex-turn-metadata: turn_id is missing"
    if metadata.get("request_kind") not in REQUEST_KINDS[endpoint]:
        yield f"x-codex-turn-metadata: request_kind must be {' or '.join(REQUEST_KINDS[endpoint])}"


def client_metadata_rules(values: dict[str, str], metadata: JSON, client: JSON) -> Iterator[str]:
    """The body's client_metadata against headers and turn metadata."""
    if not isinstance(client, dict):
        yield "client_metadata: missing"
        return
    yield from (
        f"client_metadata: {key} is not a string" for key, value in client.items() if not isinstance(value, str)
    )
    for key, header in {**CLIENT_HEADERS, **OPTIONAL_CLIENT_HEADERS}.items():
        if client.get(key) != values.get(header):
            yield f"client_metadata: {key} is not the header {header}"
    for key, name in {**CLIENT_METADATA, **OPTIONAL_CLIENT_METADATA}.items():
        if client.get(key) != metadata.get(name):
            yield f"client_metadata: {key} is not the turn metadata's {name}"


def cli_version(agent: str) -> tuple[int, int, int] | None:
    """The version in `<originator>/<a.b.c>...`."""
    match = re.match(r"[^/]+/(\d+)\.(\d+)\.(\d+)", agent)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def json_object(text: str) -> dict[str, JSON] | None:
    """The JSON object in an ASCII text, else None; other characters make an invalid header value."""
    if not text.isascii():
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_uuid4(value: JSON) -> bool:
    """Whether a value is a random UUID in canonical form."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value and uuid.UUID(value).version == 4
    except ValueError:
        return False


def ends_with_trigger(items: JSON) -> bool:
    """Whether an input requests a compaction."""
    return (
        isinstance(items, list)
        and bool(items)
        and isinstance(items[-1], dict)
        and items[-1].get("type") == "compaction_trigger"
    )
