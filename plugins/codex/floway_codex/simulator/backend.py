"""The routes of the simulated backend and their responses. No I/O."""

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import bodies, fingerprint, oauth
from .accounts import Account, Accounts, check_quota, quota_headers, usage_status
from .catalogue import Catalogue, load_catalogue
from .consistency import TURN_STATE, Consistency, ObservedDispatch
from .events import event_stream, usage
from .fingerprint import COMPACT, MODELS, RESPONSES
from .recording import RecordedRequest
from .replies import Hang, Messages, Refusal, Reply, ReplyHeaders, Scripted, compaction, reply, text
from .responses import (
    EventStream,
    Headers,
    PlainResponse,
    RequestRefused,
    Silence,
    SimulatedResponse,
    challenge_page,
    detail_refusal,
    json_response,
)

JSON = Any
Step = Scripted | Callable[[JSON], Scripted]

DATA_PLANE = "/backend-api/codex/"
ACCOUNTS_CHECK = "/backend-api/wham/accounts/check"
USAGE = "/backend-api/wham/usage"
SERVER = (("server", "cloudflare"),)


@dataclass
class Backend:
    """The state of the backend: accounts, model list, and the scripted responses."""

    accounts: Accounts = field(default_factory=Accounts)
    catalogue: Catalogue = field(default_factory=load_catalogue)
    consistency: Consistency = field(default_factory=Consistency)
    steps: deque[Step] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def script(self, steps: tuple[Step, ...]) -> None:
        """Add responses for the next dispatches."""
        with self.lock:
            self.steps.extend(steps)

    def next_step(self, body: JSON, default: Callable[[JSON], Scripted]) -> Scripted:
        """The scripted response to this dispatch, or the default one."""
        with self.lock:
            step: Step = self.steps.popleft() if self.steps else default
        return step(body) if callable(step) else step

    def respond(self, request: RecordedRequest) -> SimulatedResponse:
        """The response to a request."""
        path = urlsplit(request.path).path
        try:
            if path == "/oauth/token" and request.method == "POST":
                return oauth.issue_token(self.accounts, request)
            if path == "/oauth/authorize" and request.method == "GET":
                return oauth.authorize(self.accounts, request)
            if path == DATA_PLANE + MODELS and request.method == "GET":
                return self.models(request)
            if path == USAGE and request.method == "GET":
                return self.usage(request)
            if path == ACCOUNTS_CHECK and request.method == "GET":
                return self.accounts_check(request)
            if path == DATA_PLANE + RESPONSES and request.method == "GET" and request.header("upgrade"):
                return json_response(426, {"detail": "Upgrade Required"}, note="426 no websocket here")
            if path == DATA_PLANE + RESPONSES and request.method == "POST":
                return self.responses(request)
            if path == DATA_PLANE + COMPACT and request.method == "POST":
                return self.compact(request)
        except RequestRefused as refused:
            return refused.response
        return json_response(404, {"detail": "Not Found"}, note="404 no such route")

    def responses(self, request: RecordedRequest) -> SimulatedResponse:
        """POST /codex/responses."""
        account = self.check_request(request, RESPONSES)
        lite = request.header("x-openai-internal-codex-responses-lite") == "true"
        bodies.check_responses(request.body, self.catalogue.by_slug(), request.header("user-agent") or "", lite)
        seen = self.consistency.check(request, account.account_id)
        check_quota(account)
        headers = (
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            *self.common_headers(account),
        )
        if request.header(TURN_STATE) is None:  # the first dispatch of a turn; the CLI echoes the state in the others
            headers += ((TURN_STATE, f"ts_{secrets.token_urlsafe(48)}"),)
        step = self.next_step(request.body, default_reply)
        if isinstance(step, Reply):
            return self.streamed(step, request.body, merge_headers(headers, step.headers), seen, account)
        return scripted_response(step, headers)

    def streamed(
        self, step: Reply, body: JSON, headers: Headers, seen: ObservedDispatch, account: Account
    ) -> SimulatedResponse:
        """A 200 event stream."""
        self.consistency.note_response(seen, dict(headers).get(TURN_STATE), [item.body for item in step.items])
        return event_stream(step, body, headers, account)

    def compact(self, request: RecordedRequest) -> SimulatedResponse:
        """POST /codex/responses/compact: one JSON object instead of a stream."""
        account = self.check_request(request, COMPACT)
        bodies.check_compact(request.body, self.catalogue.by_slug(), request.header("user-agent") or "")
        check_quota(account)
        headers = self.common_headers(account)
        step = self.next_step(request.body, lambda body: reply(compaction()))
        if not isinstance(step, Reply):
            return scripted_response(step, headers)
        body = {
            "id": f"resp_{secrets.token_hex(25)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [item.body for item in step.items],
            "usage": usage(step, request.body),
        }
        return json_response(200, body, merge_headers(headers, step.headers), "200 response.compaction")

    def models(self, request: RecordedRequest) -> PlainResponse:
        """GET /codex/models?client_version=X."""
        self.check_request(request, MODELS)
        if not parse_qs(urlsplit(request.path).query).get("client_version"):
            raise detail_refusal("client_version is required")
        headers = (("etag", self.catalogue.etag), ("x-request-id", secrets.token_hex(16)), *SERVER)
        return json_response(200, {"models": list(self.catalogue.models)}, headers, "200 models")

    def accounts_check(self, request: RecordedRequest) -> PlainResponse:
        """GET /wham/accounts/check; without it CLI 0.169 fails with "workspace routing discovery failed"."""
        account = self.accounts.authorize(request.header("authorization"))
        entry = {
            "id": account.account_id,
            "plan_type": account.plan,
            "structure": "personal",
            "workspace_backend_origin": "NO_CONSTRAINT",
            "account_routing_override": "NO_CONSTRAINT",
        }
        body = {"accounts": [entry], "account_ordering": [account.account_id], "default_account_id": account.account_id}
        return json_response(200, body, SERVER, "200 accounts")

    def usage(self, request: RecordedRequest) -> PlainResponse:
        """GET /wham/usage: plan, limits and credits of the account."""
        account = self.check_request(request, MODELS)
        return json_response(200, usage_status(account), SERVER, "200 usage")

    def check_request(self, request: RecordedRequest, endpoint: str) -> Account:
        """Check authorization, account id and fingerprint, in this order; return the account or raise the refusal."""
        account = self.check_account(request)
        if request.body_error:
            raise detail_refusal(request.body_error[1], request.body_error[0])
        rule = fingerprint.broken_rule(endpoint, request.headers, request.body)
        if rule:
            raise RequestRefused(challenge_page(rule))
        return account

    def check_account(self, request: RecordedRequest) -> Account:
        """The account of a request's token, which its header has to name."""
        account = self.accounts.authorize(request.header("authorization"))
        if request.header("chatgpt-account-id") != account.account_id:
            raise RequestRefused(challenge_page("chatgpt-account-id: not the account of the token"))
        return account

    def common_headers(self, account: Account) -> Headers:
        """The headers of every 200 to a dispatch."""
        return (
            *SERVER,
            ("x-request-id", secrets.token_hex(16)),
            ("x-models-etag", self.catalogue.etag),
            *quota_headers(account),
        )


def scripted_response(step: Refusal | Hang | Messages, headers: Headers) -> SimulatedResponse:
    """A scripted response other than a reply; headers: those of a stream that stays silent."""
    if isinstance(step, Messages):
        return json_response(500, {"detail": "Messages are for WebSockets."}, note="500 messages scripted")
    if isinstance(step, Hang):
        return Silence() if step.before_headers else EventStream((), headers, "hang", "200 silence after the headers")
    own = merge_headers((), step.headers)
    if isinstance(step.body, str):
        return PlainResponse(step.status, step.body.encode(), own, f"{step.status} scripted")
    return json_response(step.status, step.body, own, f"{step.status} scripted")


def merge_headers(usual: Headers, own: ReplyHeaders) -> Headers:
    """Replace common headers by a reply's own ones; a value of None only removes the common one."""
    replaced = {name.lower() for name, _ in own}
    unchanged = tuple(pair for pair in usual if pair[0].lower() not in replaced)
    return unchanged + tuple((name, value) for name, value in own if value is not None)


def default_reply(body: JSON) -> Reply:
    """The reply when nothing is scripted: an echo of the last user message, or the requested compaction."""
    if fingerprint.ends_with_trigger(body["input"]):
        return reply(compaction())
    last = body["input"][-1] if body["input"] else {}
    if last.get("role") == "user":
        return reply(text(f"You said: {plain_text(last.get('content'))}", chunks=4))
    if str(last.get("type", "")).endswith("_output"):
        return reply(text(f"The tool said: {plain_text(last.get('output'))}", chunks=4))
    return reply(text("pong"))


def plain_text(content: JSON) -> str:
    """The text of a message's content or a tool's output, which may be a string or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else json.dumps(content)
