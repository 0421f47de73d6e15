"""Plays recorded WebSocket conversations of the CLI through a gateway, as if the CLI had sent POSTs to it."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from floway_codex.simulator import OutputItem, Simulator, compaction, item, reply

from floway_core.testing import ApiClient, ApiResponse

from .. import recordings
from ..recordings import Dispatch, WebSocketMessage, as_for_gateway

FRAME_KEYS = ("type", "previous_response_id", "generate")
LITE_KEY = "ws_request_header_x_openai_internal_codex_responses_lite"
START = "x-codex-ws-stream-request-start-ms"
STATE = "x-codex-turn-state"
POSTED = (
    "x-codex-beta-features",
    "x-codex-window-id",
    "x-client-request-id",
    "session-id",
    "thread-id",
    "originator",
    "user-agent",
    "x-codex-parent-thread-id",
    "x-openai-subagent",
)
"""Headers of an upgrade that a POST has, too."""


@dataclass
class Recorded:
    """A recorded frame, with the upgrade of its connection and the whole input that it stands for."""

    upgrade: WebSocketMessage
    frame: WebSocketMessage
    is_first: bool
    """Whether it is the first frame of its connection, or only a warm-up came before."""
    whole: list[Any]
    warmup: WebSocketMessage | None = None
    """The one directly before it."""
    output: list[Any] = field(default_factory=list)
    """The items of the answer."""

    @property
    def thread(self) -> str:
        return self.frame.body["client_metadata"]["thread_id"]

    @property
    def is_of_title(self) -> bool:
        """Whether its thread is the one in which the CLI finds a title for another."""
        return '"thread_source":"thread_title"' in self.frame.body["client_metadata"][recordings.METADATA]

    @property
    def turn_state(self) -> str | None:
        return self.frame.body["client_metadata"].get(STATE)


def read_conversation(version: str, scenario: str, phase: str | None = None) -> list[Recorded]:
    """The requests of one process of the CLI in order.

    :param phase: which one; None if all of the scenario is one process.
    """
    found: list[Recorded] = []
    messages = [one for one in recordings.websocket_messages(version, scenario) if phase is None or one.phase == phase]
    histories: dict[str, list[Any]] = {}
    upgrades: dict[str, WebSocketMessage] = {}
    warmups: dict[str, WebSocketMessage] = {}
    for message in messages:
        if message.method == "GET":
            thread = dict(message.headers)["thread-id"]
            upgrades[thread] = message
            continue
        body = message.body
        thread = body["client_metadata"]["thread_id"]
        if "generate" in body:
            warmups[thread], histories[thread] = message, list(body["input"])
            continue
        continues = "previous_response_id" in body
        before = next((one for one in reversed(found) if one.thread == thread), None)
        if continues and before is not None:
            before.output = make_output(body["input"], before.frame.body["input"])
        history = [*(before.whole + before.output if before else histories.get(thread, []))] if continues else []
        whole = [*history, *body["input"]]
        is_first = before is None or before.upgrade is not upgrades[thread]
        found.append(Recorded(upgrades[thread], message, is_first, whole, warmups.pop(thread, None)))
    return found


IDS = itertools.count(1)


def make_output(next_input: list[Any], asked: list[Any]) -> list[Any]:
    """Output items, as the CLI sends them again, that ``next_input`` may follow."""
    calls = {"custom_tool_call_output": "custom_tool_call", "function_call_output": "function_call"}
    has_ids = any("id" in one for one in [*asked, *next_input])
    made = []
    for given in next_input:
        if given["type"] in calls:
            kind = calls[given["type"]]
            more = {"input": "ls"} if kind == "custom_tool_call" else {"arguments": "{}"}
            prefix = "ctc" if kind == "custom_tool_call" else "fc"
            named = {"id": f"{prefix}_{next(IDS):050}"} if has_ids else {}
            made.append({"type": kind, **named, "call_id": given["call_id"], "name": "exec", **more})
    if not made:
        part = {"type": "output_text", "text": "Done.", **({"annotations": []} if has_ids else {})}
        named = {"id": f"msg_{next(IDS):050}", "status": "completed"} if has_ids else {}
        made = [{"type": "message", **named, "role": "assistant", "content": [part]}]
    return made


def as_post(recorded: Recorded, state: str | None = None) -> Dispatch:
    """What the CLI would send to a gateway without WebSockets."""
    frame = recorded.frame.body
    client = {name: value for name, value in frame["client_metadata"].items() if name not in (LITE_KEY, START, STATE)}
    headers = [(name, value) for name, value in recorded.upgrade.headers if name in POSTED]
    headers = [(n, client["x-codex-window-id"] if n == "x-codex-window-id" else v) for n, v in headers]
    headers.append((recordings.METADATA, client[recordings.METADATA]))
    if LITE_KEY in frame["client_metadata"]:
        headers.append(("x-openai-internal-codex-responses-lite", "true"))
    if state:
        headers.append((STATE, state))
    headers += [("accept", "text/event-stream"), ("content-type", "application/json")]
    body = {
        name: recorded.whole if name == "input" else client if name == "client_metadata" else value
        for name, value in frame.items()
        if name not in FRAME_KEYS
    }
    return as_for_gateway(Dispatch("/responses", headers, body, None), state)


def play(client: ApiClient, backend: Simulator, recorded: Recorded, state: str | None = None, **options) -> ApiResponse:
    """Send a request through the gateway. The backend answers it with the output that follows it."""
    sent = as_post(recorded, state)
    compacts = sent.body["input"][-1]["type"] == "compaction_trigger"
    answers = [compaction("ENC-COMPACTED")] if compacts else list(_output_items(recorded.output)) or [item(_said())]
    backend.script(reply(*answers, **options))
    return client.send("POST", f"/v1{sent.path}", json.dumps(sent.body).encode(), dict(sent.headers))


def _output_items(output: list[Any]) -> Iterator[OutputItem]:
    for one in output:
        prefix = {"function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs"}.get(one["type"], "msg")
        yield item({"id": f"{prefix}_{next(IDS):050}", "status": "completed", **one})


def _said() -> dict[str, Any]:
    return {**make_output([], [])[0], "id": f"msg_{next(IDS):050}", "status": "completed"}


# ----------------------------------------------------------------------------------------------------------- comparing
def upgrade_differences(recorded: WebSocketMessage, headers: list[tuple[str, str]]) -> list[str]:
    """Where an upgrade differs from the recorded one."""
    own = ("Host", "Sec-WebSocket-Key", "authorization", "chatgpt-account-id")
    there, here = dict(recorded.headers), dict(headers)
    found = [name for name in {**there, **here} if name not in own and there.get(name) != here.get(name)]
    return found + ["order"] * ([name for name, _ in recorded.headers] != [name for name, _ in headers])


def frame_differences(recorded: dict[str, Any], frame: dict[str, Any]) -> list[str]:
    """Where a frame differs from the recorded one, apart from the metadata of items, which gateways do not get."""
    found = ["order"] * (list(recorded) != list(frame))
    for name in {**recorded, **frame}:
        there, here = recorded.get(name), frame.get(name)
        if name == "input":
            found += ["input"] * (without_passthrough(there) != here)
        elif name == "client_metadata":
            assert here[START].isdigit()
            found += [
                f"client_metadata.{key}"
                for key in {**there, **here}
                if key != START and there.get(key) != here.get(key)
            ]
        elif name != "previous_response_id":
            found += [name] * (there != here)
    return found


def without_passthrough(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != recordings.PASSTHROUGH} for one in items]
