"""Recordings of the CLI's requests: JSON files with the ``requests`` of one scenario in order.

In a file, whatever repeats an earlier request is a reference such as ``<same as in request 2>`` or ``<items 0..6 same
as in request 5>``. Reading replaces the references.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESPONSES_PATH, MODELS_PATH, TOKEN_PATH = "/backend-api/codex/responses", "/backend-api/codex/models", "/oauth/token"
TURN_METADATA, TURN_STATE = "x-codex-turn-metadata", "x-codex-turn-state"
LITE_HEADER = "x-openai-internal-codex-responses-lite"
ITEMS_REFERENCE = re.compile(r"<items 0\.\.(\d+) same as in request (\d+)>")
REFERENCE = re.compile(r"<same as in request (\d+)>")


class UnreadableRecording(ValueError):
    """A file is no recording. The message names it."""


@dataclass(frozen=True)
class RecordedRequest:
    """One request of the CLI."""

    version: str
    scenario: str
    phase: str
    method: str
    path: str
    """Without the query."""
    headers: Sequence[tuple[str, str]]
    body: Any

    def header(self, name: str) -> str | None:
        """The value of a header (lower case), or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def turn_metadata(self) -> dict[str, Any]:
        """The turn metadata of a dispatch."""
        parsed = json.loads(self.header(TURN_METADATA) or "{}")
        return parsed if isinstance(parsed, dict) else {}

    @property
    def is_lite(self) -> bool:
        """Whether it is a dispatch in the responses-lite form."""
        return self.header(LITE_HEADER) is not None

    @property
    def is_dispatch(self) -> bool:
        """Whether it is a model request to the backend itself, as opposed to a gateway."""
        return self.method == "POST" and self.path == RESPONSES_PATH

    @property
    def is_plain(self) -> bool:
        """Whether it is a dispatch of a user's turn in the main thread, with a program instead of a terminal: the form
        for requests of clients that are no CLI."""
        metadata = self.turn_metadata
        return (
            self.is_dispatch
            and metadata.get("request_kind") == "turn"
            and metadata.get("thread_source", "user") == "user"
            and str(self.header("originator")).endswith("exec")
        )


def read_recordings(paths: Iterable[Path]) -> list[RecordedRequest]:
    """The requests of all files. Of a folder, the JSON files directly in it count.

    :raises UnreadableRecording: a file is no recording, there is none, or they are of several versions.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    requests = [request for file in files for request in _read_file(file)]
    versions = sorted({request.version for request in requests})
    if len(versions) != 1:
        raise UnreadableRecording(f"The recordings are of {', '.join(versions)}." if versions else "No recordings.")
    return requests


def _read_file(file: Path) -> list[RecordedRequest]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        requests = _expand_references(data["requests"])
        if any(not isinstance(value, str) for entry in requests for _, value in entry["headers"]):
            raise ValueError("its values are replaced by numbers")
        return [
            RecordedRequest(
                version=data["cli"],
                scenario=data.get("scenario", file.stem),
                phase=str(entry.get("phase", "")),
                method=entry["method"],
                path=entry["path"].partition("?")[0],
                headers=[(name, value) for name, value in entry["headers"]],
                body=entry["body"],
            )
            for entry in requests
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnreadableRecording(f"{file} is no recording: {type(error).__name__} {error}") from error


def _expand_references(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The requests with each reference replaced by what it refers to."""
    for request in requests:
        request["headers"] = _resolve_reference(request["headers"], requests, "headers")
        request["body"] = body = _resolve_reference(request["body"], requests, "body")
        items = body.get("input") if isinstance(body, dict) else None
        if not isinstance(items, list):
            continue
        if items and isinstance(items[0], str) and (match := ITEMS_REFERENCE.fullmatch(items[0])):
            earlier = requests[int(match[2])]["body"]["input"]
            items = [*earlier[: int(match[1]) + 1], *items[1:]]
        request["body"] = body = {**body, "input": [item for item in items if isinstance(item, dict)]}
        if isinstance(body.get("tools"), str):
            request["body"] = {**body, "tools": []}  # their content does not matter, only that they are there
    return requests


def _resolve_reference(value: Any, requests: Sequence[dict[str, Any]], part: str) -> Any:
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return requests[int(match[1])][part] if match else value
