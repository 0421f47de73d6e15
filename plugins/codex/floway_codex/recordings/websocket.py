"""The part of a profile about the WebSocket: its upgrade, and what its frames have beside the body of a POST."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from floway_codex.recordings import known
from floway_codex.recordings.borrowing import Rows, borrow_rows, find_unseen
from floway_codex.recordings.fitting import Sample, fit_fields, merge_orders
from floway_codex.recordings.items import item_kinds
from floway_codex.recordings.reading import LITE_HEADER, RESPONSES_PATH, TURN_METADATA, TURN_STATE, RecordedRequest

FRAME = "WS-FRAME"
"""The method of a recorded frame."""
LITE_KEY = "ws_request_header_x_openai_internal_codex_responses_lite"
START_KEY = "x-codex-ws-stream-request-start-ms"
FRAME_METADATA = {LITE_KEY: "lite", TURN_STATE: "turn_state", START_KEY: "request_start_ms"}
"""Key of ``client_metadata`` that only frames have -> the placeholder that it stands for."""
CONNECTION_HEADERS = ("Host", "Sec-WebSocket-Key")
"""Headers of the upgrade of which the profile has only the position."""

NOTHING: Mapping[str, Any] = {"headers": [], "frame": [], "client_metadata": [], "warmup": None}
"""In place of the nearest profile's part, if it has none."""


def derive_websocket(
    requests: Sequence[RecordedRequest], profile: Mapping[str, Any], nearest: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, list[str], list[str]]:
    """Derive the part from upgrades and frames.

    :param profile: the rest of the profile, as JSON.
    :param nearest: this part of the nearest profile, for what is not recorded.
    :returns: the part, what it does not express, and what was taken from the nearest profile.
    """
    upgrades = [request for request in requests if _is_upgrade(request)]
    frames = [_as_dispatch(request) for request in requests if _is_frame(request)]
    if not frames:
        return (dict(nearest) if nearest else None), [], ["websocket"] if nearest else []
    nearest = nearest or NOTHING
    turns = [request for request in frames if "generate" not in request.body]
    warmups = [request for request in frames if "generate" in request.body]
    headers, problems, borrowed = _fit_headers(upgrades, profile["responses_headers"], nearest["headers"])
    shared_keys = {row[0] for row in profile["client_metadata"]}
    samples = [
        _sample(request, {name: value for name, value in _client(request).items() if name not in shared_keys})
        for request in frames
    ]
    rows = fit_fields(samples, FRAME_METADATA).rows
    metadata, lines = borrow_rows(rows, nearest["client_metadata"], find_unseen(frames))
    part = {
        "headers": headers,
        "frame": merge_orders([list(request.body) for request in frames], nearest["frame"])[0],
        "client_metadata": sorted(metadata),  # the CLI writes them in a random order
        "warmup": _warmup_form(warmups, turns, upgrades, requests) if warmups else nearest["warmup"],
    }
    return part, problems, [f"websocket: {line}" for line in (*borrowed, *lines)]


def _is_upgrade(request: RecordedRequest) -> bool:
    return request.method == "GET" and request.path == RESPONSES_PATH and request.header("upgrade") is not None


def _is_frame(request: RecordedRequest) -> bool:
    is_create = isinstance(request.body, dict) and request.body.get("type") == "response.create"
    return request.method == FRAME and request.path == RESPONSES_PATH and is_create


def _client(frame: RecordedRequest) -> dict[str, Any]:
    return dict(frame.body["client_metadata"])


def _as_dispatch(frame: RecordedRequest) -> RecordedRequest:
    """A frame with the headers that a POST in its place would have, as far as it is known from."""
    client = _client(frame)
    pairs = ((LITE_HEADER, client.get(LITE_KEY)), (TURN_STATE, client.get(TURN_STATE)))
    headers = [(TURN_METADATA, client[TURN_METADATA]), *((name, value) for name, value in pairs if value)]
    return replace(frame, method="POST", headers=headers)


def _sample(frame: RecordedRequest, fields: Mapping[str, Any]) -> Sample:
    values = {**known.known_values(frame), "request_start_ms": _client(frame).get(START_KEY)}
    return Sample(fields, values, True, frame.scenario)


def _fit_headers(upgrades: Sequence[RecordedRequest], posted: Rows, nearest: Rows) -> tuple[Rows, list[str], list[str]]:
    """Fit the headers of the upgrade.

    :param posted: the headers of a POST, whose forms that are not recorded here are taken over.
    :returns: the rows, what they do not express, and what was taken from ``nearest``.
    """
    dispatches = [
        replace(request, method="POST", body={"model": request.turn_metadata.get("model"), "client_metadata": {}})
        for request in upgrades
    ]
    samples = [
        Sample(
            {name: value for name, value in request.headers if name != "cookie"},
            known.known_values(request),
            True,
            request.scenario,
        )
        for request in dispatches
    ]
    fit = fit_fields(samples, known.HEADERS, sources=known.SOURCES, places_only=CONNECTION_HEADERS)
    unseen, names = find_unseen(dispatches), {row[0] for row in fit.rows}
    rows, _ = borrow_rows(fit.rows, [row for row in posted if row[0] in names], unseen)
    rows, borrowed = borrow_rows(rows, nearest, unseen)
    return rows, [f"websocket: {line}" for line in fit.problems], borrowed


def _warmup_form(
    warmups: Sequence[RecordedRequest],
    turns: Sequence[RecordedRequest],
    upgrades: Sequence[RecordedRequest],
    requests: Sequence[RecordedRequest],
) -> dict[str, list[str]]:
    """What the metadata of a turn has and that of a warm-up has not, and the kinds of items that a warm-up sends."""
    posts = [request for request in requests if known.is_turn(request)]
    prewarms = [*warmups, *(request for request in upgrades if request.turn_metadata.get("request_kind") == "prewarm")]
    omitted = _missing([one.turn_metadata for one in (*turns, *posts)], [one.turn_metadata for one in prewarms])
    client = _missing(map(_client, turns), map(_client, warmups)) - set(FRAME_METADATA)
    client |= omitted & {name for request in posts for name in _client(request)}
    kinds = [kind for request in warmups for kind in item_kinds(request)]
    return {"turn_metadata": sorted(omitted), "client_metadata": sorted(client), "items": list(dict.fromkeys(kinds))}


def _missing(expected: Iterable[Mapping[str, Any]], present: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names that occur in ``expected`` and not in ``present``."""
    return {name for fields in expected for name in fields} - {name for fields in present for name in fields}
