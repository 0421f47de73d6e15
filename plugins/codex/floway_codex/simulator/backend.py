"""The routes of the simulated backend and what each answers; no I/O."""

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
from .accounts import Account, Accounts, check_quota, quota_headers
from .catalogue import Catalogue, load_catalogue
from .consistency import TURN_STATE, Consistency, Seen
from .events import event_stream, usage
from .fingerprint import COMPACT, MODELS, RESPONSES
from .recording import RecordedRequest
from .replies import Hang, Refusal, Reply, ReplyHeaders, Scripted, compaction, reply, text
from .responses import Answer, AnyAnswer, EventStream, Headers, Refused, Silence, challenge, detail, json_answer

JSON = Any
Step = Scripted | Callable[[JSON], Scripted]

DATA_PLANE = "/backend-api/codex/"
ACCOUNTS_CHECK = "/backend-api/wham/accounts/check"
SERVER = (("server", "cloudflare"),)


@dataclass
class Backend:
    """The backend's state: accounts, model list, and the script of coming answers."""

    accounts: Accounts = field(default_factory=Accounts)
    catalogue: Catalogue = field(default_factory=load_catalogue)
    consistency: Consistency = field(default_factory=Consistency)
    steps: deque[Step] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def script(self, steps: tuple[Step, ...]) -> None:
        """Add answers for the coming dispatches."""
        with self.lock:
            self.steps.extend(steps)

    def next_step(self, body: JSON, default: Callable[[JSON], Scripted]) -> Scripted:
        """The scripted answer of this dispatch, or the default one."""
        with self.lock:
            step: Step = self.steps.popleft() if self.steps else default
        return step(body) if callable(step) else step

    def answer(self, request: RecordedRequest) -> AnyAnswer:
        """What a request gets."""
        path = urlsplit(request.path).path
        try:
            if path == "/oauth/token" and request.method == "POST":
                return oauth.token(self.accounts, request)
            if path == "/oauth/authorize" and request.method == "GET":
                return oauth.authorize(self.accounts, request)
            if path == DATA_PLANE + MODELS and request.method == "GET":
                return self.models(request)
            if path == ACCOUNTS_CHECK and request.method == "GET":
                return self.accounts_check(request)
            if path == DATA_PLANE + RESPONSES and request.method == "GET" and request.header("upgrade"):
                return json_answer(426, {"detail": "Upgrade Required"}, note="426 no websocket here")
            if path == DATA_PLANE + RESPONSES and request.method == "POST":
                return self.responses(request)
            if path == DATA_PLANE + COMPACT and request.method == "POST":
                return self.compact(request)
        except Refused as refused:
            return refused.answer
        return json_answer(404, {"detail": "Not Found"}, note="404 no such route")

    def responses(self, request: RecordedRequest) -> AnyAnswer:
        """POST /codex/responses."""
        account = self.pass_gates(request, RESPONSES)
        lite = request.header("x-openai-internal-codex-responses-lite") == "true"
        bodies.check_responses(request.body, self.catalogue.by_slug(), request.header("user-agent") or "", lite)
        seen = self.consistency.arrived(request, account.account_id)
        check_quota(account)
        headers = (
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            *self.usual_headers(account),
        )
        if request.header(TURN_STATE) is None:  # a turn's first dispatch; the CLI echoes it in the others
            headers += ((TURN_STATE, f"ts_{secrets.token_urlsafe(48)}"),)
        step = self.next_step(request.body, default_reply)
        if isinstance(step, Reply):
            return self.streamed(step, request.body, merged(headers, step.headers), seen, account)
        return plain_step(step, headers)

    def streamed(self, step: Reply, body: JSON, headers: Headers, seen: Seen, account: Account) -> AnyAnswer:
        """A 200 event stream."""
        self.consistency.answered(seen, dict(headers).get(TURN_STATE), [item.body for item in step.items])
        return event_stream(step, body, headers, account)

    def compact(self, request: RecordedRequest) -> AnyAnswer:
        """POST /codex/responses/compact: one JSON object instead of a stream."""
        account = self.pass_gates(request, COMPACT)
        bodies.check_compact(request.body, self.catalogue.by_slug(), request.header("user-agent") or "")
        check_quota(account)
        headers = self.usual_headers(account)
        step = self.next_step(request.body, lambda body: reply(compaction()))
        if not isinstance(step, Reply):
            return plain_step(step, headers)
        body = {
            "id": f"resp_{secrets.token_hex(25)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [item.body for item in step.items],
            "usage": usage(step, request.body),
        }
        return json_answer(200, body, merged(headers, step.headers), "200 response.compaction")

    def models(self, request: RecordedRequest) -> Answer:
        """GET /codex/models?client_version=X."""
        self.pass_gates(request, MODELS)
        if not parse_qs(urlsplit(request.path).query).get("client_version"):
            raise detail("client_version is required")
        headers = (("etag", self.catalogue.etag), ("x-request-id", secrets.token_hex(16)), *SERVER)
        return json_answer(200, {"models": list(self.catalogue.models)}, headers, "200 models")

    def accounts_check(self, request: RecordedRequest) -> Answer:
        """GET /wham/accounts/check; without it CLI 0.169 fails with "workspace routing discovery failed"."""
        account = self.accounts.authorised(request.header("authorization"))
        entry = {
            "id": account.account_id,
            "plan_type": account.plan,
            "structure": "personal",
            "workspace_backend_origin": "NO_CONSTRAINT",
            "account_routing_override": "NO_CONSTRAINT",
        }
        body = {"accounts": [entry], "account_ordering": [account.account_id], "default_account_id": account.account_id}
        return json_answer(200, body, SERVER, "200 accounts")

    def pass_gates(self, request: RecordedRequest, endpoint: str) -> Account:
        """Authorization, then the account id, then the fingerprint; the account, or the refusal."""
        account = self.accounts.authorised(request.header("authorization"))
        if request.header("chatgpt-account-id") != account.account_id:
            raise Refused(challenge("chatgpt-account-id: not the account of the token"))
        if request.body_error:
            raise detail(request.body_error[1], request.body_error[0])
        rule = fingerprint.broken_rule(endpoint, request.headers, request.body)
        if rule:
            raise Refused(challenge(rule))
        return account

    def usual_headers(self, account: Account) -> Headers:
        """The headers of every 200 to a dispatch."""
        return (
            *SERVER,
            ("x-request-id", secrets.token_hex(16)),
            ("x-models-etag", self.catalogue.etag),
            *quota_headers(account),
        )


def plain_step(step: Refusal | Hang, headers: Headers) -> AnyAnswer:
    """A scripted answer that is no reply; headers: those of a stream that stays silent."""
    if isinstance(step, Hang):
        return Silence() if step.before_headers else EventStream((), headers, "hang", "200 silence after the headers")
    own = merged((), step.headers)
    if isinstance(step.body, str):
        return Answer(step.status, step.body.encode(), own, f"{step.status} scripted")
    return json_answer(step.status, step.body, own, f"{step.status} scripted")


def merged(usual: Headers, own: ReplyHeaders) -> Headers:
    """A reply's own headers take the place of the usual ones; a value of None only removes."""
    replaced = {name.lower() for name, _ in own}
    kept = tuple(pair for pair in usual if pair[0].lower() not in replaced)
    return kept + tuple((name, value) for name, value in own if value is not None)


def default_reply(body: JSON) -> Reply:
    """The answer when nothing is scripted: an echo of the last user message, or the compaction asked for."""
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
