"""The simulated backend's handling of the frames of one WebSocket connection. No I/O."""

import json
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from .accounts import Account, check_quota, quota_headers
from .backend import Backend, default_reply, merge_headers
from .bodies import check_responses
from .consistency import TURN_STATE, without_incidentals
from .events import event_stream
from .fingerprint import RESPONSES, broken_rule, json_object
from .recording import RecordedRequest
from .replies import Hang, Messages, Refusal, Reply, reply
from .responses import EventStream, PlainResponse, RequestRefused, challenge_page, error_refusal

JSON = Any

CREATE = "response.create"
METADATA = "x-codex-turn-metadata"
START = "x-codex-ws-stream-request-start-ms"
LITE_KEY, LITE_HEADER = (
    "ws_request_header_x_openai_internal_codex_responses_lite",
    "x-openai-internal-codex-responses-lite",
)
BETA = ("openai-beta", "responses_websockets=2026-02-06")
OFFER = ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
ONLY_POSTED = ("accept", "accept-encoding", "content-type", "content-encoding", TURN_STATE, LITE_HEADER)
UPGRADE_HEADERS = ("host", "connection", "upgrade", BETA[0], "sec-websocket-version", "sec-websocket-key", OFFER[0])
# Keys of a frame that a body has not, and the key that each stands before.
FRAME_KEYS = {"previous_response_id": "input", "generate": "client_metadata"}


@dataclass(frozen=True)
class Outcome:
    """What a frame is answered with: (seconds to wait before it, message); then: as in EventStream, or a close code."""

    messages: tuple[tuple[float, bytes], ...]
    then: str | int = "end"
    note: str = ""
    raw: bytes = b""
    """Bytes that are no frame, sent behind the messages."""


@dataclass
class Session:
    """One connection: its upgrade, and the history that the frames so far add up to."""

    backend: Backend
    upgrade: RecordedRequest
    frames: int = 0
    response_id: str | None = None
    history: list[JSON] = field(default_factory=list)
    """The input items so far, and the output items as they were sent."""
    fields: JSON = None
    """What the last frame had beside its input."""

    def check_upgrade(self) -> None:
        """Refuse an upgrade that the CLI would not send."""
        values = {name.lower(): value for name, value in self.upgrade.headers}
        self.backend.check_account(self.upgrade)
        for name, expected in (BETA, OFFER, ("sec-websocket-version", "13")):
            if values.get(name) != expected:
                raise RequestRefused(challenge_page(f"{name}: must be {expected}"))
        for name in ONLY_POSTED:
            if name in values:
                raise RequestRefused(challenge_page(f"{name}: not a header of an upgrade"))
        metadata = json_object(values.get(METADATA, ""))
        if metadata is None:
            raise RequestRefused(challenge_page(f"{METADATA}: must be a JSON object in ASCII"))

    def answer(self, frame: RecordedRequest) -> Outcome:
        """The answer to a frame, which becomes a part of the history."""
        body = frame.body
        self.frames += 1
        if not isinstance(body, dict) or body.get("type") != CREATE:
            return Outcome((), note="ignored")
        try:
            return self._create(frame, body)
        except RequestRefused as refused:
            return error_outcome(refused.response)

    def _create(self, frame: RecordedRequest, body: JSON) -> Outcome:
        if frame.body_error:
            raise error_refusal(400, None, frame.body_error[1])
        self._check_order(body)
        previous = body.get("previous_response_id")
        if previous is not None and previous != self.response_id:
            raise error_refusal(400, "previous_response_not_found", "Previous response not found.")
        fields = {name: value for name, value in body.items() if name not in ("input", "client_metadata", *FRAME_KEYS)}
        self._check_increment(frame, body, fields, previous)
        whole_input = body["input"] if previous is None else [*self.history, *body["input"]]
        frame.whole = posted = {
            name: whole_input if name == "input" else value
            for name, value in body.items()
            if name not in ("type", *FRAME_KEYS)
        }
        frame.posted = equivalent = self._as_post(frame, posted)
        account = self._check(equivalent)
        if body.get("generate") is False:
            self.history, self.fields = list(whole_input), fields
            return self._empty(body, account)
        seen = self.backend.consistency.check(equivalent, account.account_id)
        check_quota(account)
        step = self.backend.next_step(posted, default_reply)
        state = (TURN_STATE, f"ts_{secrets.token_urlsafe(48)}") if equivalent.header(TURN_STATE) is None else None
        if not isinstance(step, Reply):
            return self._scripted(step)
        headers = dict(merge_headers((state,) if state else (), step.headers))
        sent_state = headers.get(TURN_STATE)
        self.backend.consistency.note_response(seen, sent_state, [item.body for item in step.items])
        outcome = stream_outcome(event_stream(step, posted, (), account), sent_state)
        completed = next((one for _, one in outcome.messages if b'"response.completed"' in one[:40]), None)
        if completed is None:
            self.response_id = None
        else:
            self.response_id = json.loads(completed)["response"]["id"]
            self.history, self.fields = [*whole_input, *(item.body for item in step.items)], fields
        return outcome

    # --------------------------------------------------------------------------------------------------------- checks
    def _check_order(self, body: JSON) -> None:
        names = list(body)
        if names[0] != "type":
            raise error_refusal(400, None, "type does not come first")
        for name, following in FRAME_KEYS.items():
            if name in body and names[names.index(name) + 1 :][:1] != [following]:
                raise error_refusal(400, None, f"{name} does not come before {following}")
        if not isinstance(body.get("input"), list):
            raise error_refusal(400, None, "input is no list")

    def _check_increment(self, frame: RecordedRequest, body: JSON, fields: JSON, previous: str | None) -> None:
        """Findings about what is sent again, and what is not."""
        findings = self.backend.consistency.findings
        if previous is not None and fields != self.fields:
            changed = [name for name in {**fields, **self.fields} if fields.get(name) != self.fields.get(name)]
            findings.append(f"frame {frame.n}: an increment, but {', '.join(changed)} changed")
        if previous is not None or self.response_id is None or fields != self.fields or not self.history:
            return
        count = len(self.history)
        if len(body["input"]) > count and without_incidentals(body["input"][:count]) == without_incidentals(
            self.history
        ):
            findings.append(f"frame {frame.n}: the whole input, where an increment would do")

    def _as_post(self, frame: RecordedRequest, posted: JSON) -> RecordedRequest:
        """The frame as the POST that says the same, for the checks of these."""
        client = posted.get("client_metadata")
        client = client if isinstance(client, dict) else {}
        headers = [(name, value) for name, value in self.upgrade.headers if name.lower() not in UPGRADE_HEADERS]
        replaced = {METADATA: client.get(METADATA), "x-codex-window-id": client.get("x-codex-window-id")}
        headers = [(name, replaced.get(name) or value) for name, value in headers]
        more = ((LITE_HEADER, client.get(LITE_KEY)), (TURN_STATE, client.get(TURN_STATE)))
        headers += [(name, value) for name, value in more if value]
        headers += [("accept", "text/event-stream"), ("content-type", "application/json")]
        return replace(frame, headers=headers, body=posted)

    def _check(self, request: RecordedRequest) -> Account:
        client = request.body.get("client_metadata") or {}
        account = self.backend.accounts.authorize(request.header("authorization"))
        if not re.fullmatch(r"1[0-9]{12}", str(client.get(START))):
            raise RequestRefused(challenge_page(f"{START}: missing"))
        metadata = json_object(request.header(METADATA) or "") or {}
        is_warm_up = metadata.get("request_kind") == "prewarm"
        if is_warm_up != (metadata.get("turn_id") == "") or is_warm_up != (client.get("turn_id") == ""):
            raise RequestRefused(challenge_page("turn_id: empty in a warm-up, and only there"))
        # the rules of POSTs want a turn
        checked = request if not is_warm_up else with_turn(request)
        if rule := broken_rule(RESPONSES, checked.headers, checked.body):
            raise RequestRefused(challenge_page(rule))
        lite = request.header(LITE_HEADER) == "true"
        if not is_warm_up:
            agent = request.header("user-agent") or ""
            check_responses(request.body, self.backend.catalogue.by_slug(), agent, lite)
        return account

    # -------------------------------------------------------------------------------------------------------- answers
    def _empty(self, body: JSON, account: Account) -> Outcome:
        stream = event_stream(reply(), {**body, "input": []}, (), account)
        outcome = stream_outcome(stream, None)
        self.response_id = json.loads(outcome.messages[-1][1])["response"]["id"]
        return replace(outcome, note="200 warm-up")

    def _scripted(self, step: Refusal | Hang | Messages) -> Outcome:
        self.response_id = None
        if isinstance(step, Hang):
            return Outcome((), "hang", "silence")
        if isinstance(step, Messages):
            return Outcome(tuple((0.0, one) for one in step.messages), step.then, "scripted", step.raw)
        content = step.body.encode() if isinstance(step.body, str) else json.dumps(step.body).encode()
        headers = tuple((name, value) for name, value in step.headers if value is not None)
        return error_outcome(PlainResponse(step.status, content, headers, f"{step.status} scripted"))


def with_turn(request: RecordedRequest) -> RecordedRequest:
    """A warm-up with a turn id in the places that the rules of POSTs compare."""
    headers = [
        (name, value.replace('"turn_id":""', '"turn_id":"warm-up"') if name == METADATA else value)
        for name, value in request.headers
    ]
    metadata = dict(headers)[METADATA]
    client = {**request.body["client_metadata"], "turn_id": "warm-up", METADATA: metadata}
    return replace(request, headers=headers, body={**request.body, "client_metadata": client})


def stream_outcome(stream: EventStream, state: str | None) -> Outcome:
    """An event stream as messages: a turn state comes as an event of its own."""
    messages = [(delay, frame.partition(b"\ndata: ")[2].strip()) for delay, frame in stream.frames]
    if state is not None:
        event = {"type": "response.metadata", "headers": {TURN_STATE: state}}
        messages.insert(0, (0.0, json.dumps(event, separators=(",", ":")).encode()))
    return Outcome(tuple(messages), stream.then, stream.note)


def error_outcome(response: PlainResponse) -> Outcome:
    """A refusal as an error event."""
    try:
        body = json.loads(response.body)
    except ValueError:
        body = {"detail": response.note}
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {"type": "invalid_request_error", "message": json.dumps(body)}
    event = {"type": "error", "status": response.status, "error": error}
    headers = {name: value for name, value in response.headers if name not in ("content-type", "content-length")}
    if headers:
        event["headers"] = headers
    return Outcome(((0.0, json.dumps(event).encode()),), "end", response.note)


def upgrade_headers(account: Account) -> list[tuple[str, str]]:
    """Headers of a 101 besides those of the protocol."""
    return [("x-request-id", secrets.token_hex(16)), *quota_headers(account)]
