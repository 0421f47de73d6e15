"""The recordings of the CLI in ``golden/``, and what the CLI would have sent to a gateway instead."""

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ("0.142.0", "0.156.1", "0.169.0", "0.171.0")
OWN_PATHS = {"models": "/backend-api/codex/models", "token": "/oauth/token"}
METADATA = "x-codex-turn-metadata"
PASSTHROUGH = "internal_chat_message_metadata_passthrough"
BACKEND_ONLY = ("version", "x-codex-routing-hint", "content-encoding", "chatgpt-account-id", "cookie")
BACKEND_ONLY_METADATA = ("mcp_attribution", "guardian_credits_requested")


@dataclass(frozen=True)
class Dispatch:
    """A recorded request, and the turn state in the answer to it."""

    path: str
    headers: list[tuple[str, str]]
    body: dict[str, Any]
    state: str | None

    @property
    def turn(self) -> str:
        return self.body["client_metadata"]["turn_id"]


@functools.cache
def _file(version: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{version}.json").read_text())


def scenarios(to_gateway: bool) -> list[tuple[str, str]]:
    """(version, scenario): those recorded between the CLI and a gateway, or those between the CLI and the backend."""
    named = [(version, name) for version in VERSIONS for name in _file(version)["scenarios"]]
    return [(version, name) for version, name in named if name.startswith("custom_provider") == to_gateway]


def dispatches(version: str, scenario: str) -> list[Dispatch]:
    """The dispatches of a scenario, as they were sent."""
    data = _file(version)
    return [_whole(data, one) for one in data["scenarios"][scenario] if isinstance(one, str) or "method" not in one]


def own_requests(version: str, kind: str) -> list[dict[str, Any]]:
    """The requests for models or tokens in all scenarios."""
    found = [one for scenario in _file(version)["scenarios"].values() for one in scenario if isinstance(one, dict)]
    return [one for one in found if one["path"].startswith(OWN_PATHS[kind])]


def write_recordings(version: str, folder: Path) -> None:
    """Write the recordings of a version in the form in which they were made, a file for each scenario."""
    data = _file(version)
    for name, scenario in data["scenarios"].items():
        requests = []
        for one in scenario:
            if isinstance(one, dict) and "method" in one:
                requests.append({**one, "phase": ""})
                continue
            sent = _whole(data, one)
            root = "/v1" if name.startswith("custom_provider") else "/backend-api/codex"
            requests.append({"phase": "", "method": "POST", "path": f"{root}{sent.path}", "headers": sent.headers,
                             "body": sent.body})  # fmt: skip
        written = {"scenario": name, "cli": version, "requests": requests}
        (folder / f"{name}.json").write_text(json.dumps(written))
    for name in websocket_scenarios(version):
        requests = [vars(one) for one in websocket_messages(version, name)]
        written = {"scenario": name, "cli": version, "requests": requests}
        (folder / f"websocket {name}.json").write_text(json.dumps(written))


@dataclass(frozen=True)
class WebSocketMessage:
    """A recorded upgrade (method ``GET``) or frame (``WS-FRAME``)."""

    phase: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: Any
    answered: str


@functools.cache
def _websocket_file(version: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"websocket-{version}.json").read_text())


def websocket_scenarios(version: str) -> list[str]:
    return list(_websocket_file(version)["scenarios"])


def websocket_messages(version: str, scenario: str) -> list[WebSocketMessage]:
    """The upgrades and frames of a scenario, as they were sent."""
    data = copy.deepcopy(_websocket_file(version))
    messages = []
    for one in data["scenarios"][scenario]:
        if isinstance(one["body"], dict) and "input" in one["body"]:
            one["body"]["input"] = [data["parts"][number] for number in one["body"]["input"]]
            if "tools" in one["body"]:
                one["body"]["tools"] = data["parts"][one["body"]["tools"]]
        messages.append(WebSocketMessage(**one))
    return messages


def _whole(data: dict[str, Any], given: dict[str, Any] | str) -> Dispatch:
    if isinstance(given, str):
        name, place = given.split("/")
        given = data["scenarios"][name][int(place)]
    body = copy.deepcopy(given["body"])
    body["input"] = [data["parts"][number] for number in body["input"]]
    if "tools" in body:
        body["tools"] = data["parts"][body["tools"]]
    headers = [
        (name, json.dumps(value, separators=(",", ":")) if name == METADATA else value)
        for name, value in given["headers"]
    ]
    if "client_metadata" in body:
        body["client_metadata"][METADATA] = dict(headers)[METADATA]
    return Dispatch(given["path"], headers, body, given["answered with state"])


def as_for_gateway(sent: Dispatch, state: str | None) -> Dispatch:
    """What the CLI sends to a gateway (``model_provider`` with ``env_key``) where it sent this to the backend.

    :param state: the turn state that it got from the gateway in this turn.
    """
    headers = [
        (name, state if name == "x-codex-turn-state" else value)
        for name, value in sent.headers
        if name not in BACKEND_ONLY
    ]
    client = {key: value for key, value in sent.body["client_metadata"].items() if key not in BACKEND_ONLY_METADATA}
    items = [{key: value for key, value in item.items() if key != PASSTHROUGH} for item in sent.body["input"]]
    return Dispatch(sent.path, headers, {**sent.body, "input": items, "client_metadata": client}, sent.state)


def differences(direct: Dispatch, headers: list[tuple[str, str]], body: dict[str, Any]) -> list[str]:
    """Where a request that came through the gateway differs from the recorded one."""
    found = []
    here, there = dict(headers), dict(direct.headers)
    found += [f"header {name}" for name in {**there, **here} if there.get(name) != here.get(name)]
    order = [name for name, _ in headers if name in there]
    found += ["header order"] * (order != [name for name, _ in direct.headers if name in here])
    found += ["body order"] * (list(body) != list(direct.body))
    for key in {**direct.body, **body}:
        if key == "input":
            found += _item_differences(direct.body[key], body[key])
        elif body.get(key) != direct.body.get(key):
            found.append(key)
    return found


def _item_differences(direct: list[Any], through: list[Any]) -> list[str]:
    if len(direct) != len(through):
        return ["input: number of items"]
    return [
        f"input[].{key}"
        for there, here in zip(direct, through, strict=True)
        for key in {**there, **here}
        if there.get(key) != here.get(key) or (key in there) != (key in here)
    ]
