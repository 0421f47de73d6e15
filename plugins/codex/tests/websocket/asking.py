"""Requests over WebSockets without a gateway: the test plays the engine's part, and sees what the backend got."""

import json
from dataclasses import replace
from typing import Any

from floway_codex import plugin
from floway_codex.simulator import Simulator

from floway_core.contexts import AttemptContext, Services
from floway_core.provider import ErrorResponse, ResponseBody

from ..conftest import dispatch

CREATED = {"type": "response.created", "response": {"id": "resp_1"}}
DELTA = {"type": "response.output_text.delta", "delta": "Hello"}
COMPLETED = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}
THREAD, OTHER_THREAD = "11111111-1111-7111-8111-111111111111", "22222222-2222-7222-8222-222222222222"
USER = {"role": "user", "content": "ping"}
STARTED = ["upgrade", "warm-up", "increment"]
"""What the backend gets of the first request of a thread."""


def drive(started: AttemptContext) -> tuple[int, bytes]:
    """Send a request as the engine does: the status and the body of the last answer."""
    plugin.on_attempt_start(started)
    held = started.provider.count_held_items(started) if started.continues else 0
    for number in (1, 2, 3):
        ctx = dispatch(started, number, held if number == 1 else 0)
        answer = started.provider.send(ctx)
        try:
            content = read_whole(answer.body)
        finally:
            answer.body.close()
        if 200 <= answer.status < 300:
            break
        if not started.provider.handle_error_response(ctx, ErrorResponse(answer.status, answer.headers, content)):
            break
    return answer.status, content


def read_whole(body: ResponseBody) -> bytes:
    content = b""
    while data := body.read(5.0):
        content += data
    return content


def outputs(content: bytes) -> list[dict[str, Any]]:
    """The output items of an answer."""
    events = [json.loads(line[6:]) for line in content.decode().splitlines() if line.startswith("data: ")]
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


def kinds(simulator: Simulator) -> list[str]:
    """What the backend got: upgrades, warm-ups, whole inputs, increments and POSTs."""
    found = []
    for request in simulator.requests:
        if request.method == "GET" and request.header("sec-websocket-key"):
            found.append("upgrade")
        elif request.method == "WS-FRAME":
            increment = "increment" if "previous_response_id" in request.body else "whole"
            found.append("warm-up" if "generate" in request.body else increment)
        elif request.method == "POST" and "/codex/" in request.path:
            found.append("post")
    return found


def with_settings(services: Services, plugin_settings: dict[str, str] | None = None, **settings: Any) -> Services:
    """The same services with other settings."""
    plugins = {**services.settings.plugin, **(plugin_settings or {})}
    return replace(services, settings=replace(services.settings, plugin=plugins, **settings))
