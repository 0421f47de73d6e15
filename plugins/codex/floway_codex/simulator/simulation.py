"""The state of the simulator, and how tests use it: script responses, create accounts, inspect requests."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .accounts import DEFAULT_LIFETIME_SECONDS, AuthorizationCode, auth_json
from .backend import Backend, Step
from .recording import RecordedRequest, RequestLog

JSON = Any

FRAME = "WS-FRAME"
"""The method of a frame in the log."""
MAX_HOLD_SECONDS = 60
"""How long a test may hold the responses."""


class WebSocketSession(Protocol):
    """An open connection, for tests that do something with it while it is idle."""

    def ping(self) -> None:
        """Send a ping."""

    def close(self, code: int | None) -> None:
        """Send a close frame, or break the connection if there is no code."""


@dataclass
class WebSocketBehaviour:
    """How the simulated backend treats WebSockets."""

    refusals: list[int] = field(default_factory=list)
    """The statuses of the next upgrades."""
    refuses_for_good: bool = False
    """Whether the last one of `refusals` is for all further upgrades."""
    accepts: bool = True
    """Whether upgrades are accepted; if not, they are answered with 426."""
    ignores: bool = False
    """Whether upgrades get no answer."""
    compresses: bool = True
    """Whether messages are compressed for clients that offer it."""
    fragment_bytes: int | None = None
    """The size of the fragments in which messages are sent; None to send them whole."""
    max_message_bytes: int | None = None
    """The limit that is announced to clients; None for none."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of the 101."""
    bytes_received: int = 0
    pongs: int = 0
    sessions: list[WebSocketSession] = field(default_factory=list)
    """The open connections."""

    def refusal(self) -> int | None:
        """The status that refuses the next upgrade; None if it is accepted."""
        if not self.accepts:
            return 426
        if not self.refusals:
            return None
        return self.refusals[0] if self.refuses_for_good and len(self.refusals) == 1 else self.refusals.pop(0)


class Simulation:
    """The simulated backend, the log of its requests, and a gate for its responses. It does no I/O."""

    def __init__(self) -> None:
        self.backend, self.log = Backend(), RequestLog()
        self.compresses = False
        """Whether responses are compressed with zstd for clients that accept it."""
        self.websockets = WebSocketBehaviour()
        self._gate = threading.Event()  # responses are sent while it is set
        self._gate.set()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in order, without those to the control surface."""
        return self.log.all()

    @property
    def dispatches(self) -> list[RecordedRequest]:
        """Of those, the POSTs to /codex/responses and /codex/responses/compact."""
        return [request for request in self.log.all() if request.method == "POST" and "/codex/" in request.path]

    @property
    def upgrades(self) -> list[RecordedRequest]:
        """The requests for a WebSocket."""
        return [
            request for request in self.log.all() if request.method == "GET" and request.header("sec-websocket-key")
        ]

    @property
    def frames(self) -> list[RecordedRequest]:
        """The frames that ask for a response, warm-ups included."""
        frames = [request for request in self.log.all() if request.method == FRAME]
        return [request for request in frames if isinstance(request.body, dict)]

    @property
    def turns(self) -> list[RecordedRequest]:
        """The requests for an answer as POSTs, whatever carried them: warm-ups are none, and frames are whole."""
        dispatches = []
        for request in self.log.all():
            if request.method == "POST" and "/codex/" in request.path:
                dispatches.append(request)
            elif request.posted and request.body.get("generate") is not False:
                status = re.match(r"\d{3}", request.answered)
                posted = replace(request.posted, answered=request.answered, client_gone=request.client_gone)
                posted.status = int(status[0]) if status else None
                dispatches.append(posted)
        return dispatches

    @property
    def findings(self) -> list[str]:
        """The inconsistencies between the dispatches so far."""
        return list(self.backend.consistency.findings)

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[RecordedRequest]:
        """Wait until `count` requests have arrived; TimeoutError after `timeout` seconds."""
        return self.log.wait_for(count, timeout)

    def clear(self) -> None:
        """Delete the requests so far, the findings, and the rest of the script."""
        self.log.clear()
        self.backend.consistency.clear()
        with self.backend.lock:
            self.backend.steps.clear()

    @contextlib.contextmanager
    def hold_responses(self) -> Iterator[None]:
        """Hold all responses until the context ends; requests are recorded as they arrive."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait_while_held(self) -> None:
        """Wait until responses may be sent."""
        self._gate.wait(MAX_HOLD_SECONDS)

    def script(self, *steps: Step) -> None:
        """Add responses for the next dispatches that pass the checks, in order; a function gets the request's body."""
        self.backend.script(steps)

    def new_account(
        self, email: str = "user@example.com", plan: str = "pro", access_lifetime: int = DEFAULT_LIFETIME_SECONDS
    ) -> JSON:
        """The auth.json of a new account; access_lifetime in seconds, negative: already expired."""
        account = self.backend.accounts.create(email, plan, access_lifetime)
        return auth_json(account, self.backend.accounts.issue(account, access_lifetime))

    def new_authorization_code(
        self, email: str = "user@example.com", plan: str = "pro", access_lifetime: int = DEFAULT_LIFETIME_SECONDS
    ) -> str:
        """The authorization code of a browser sign-in to a new account."""
        return self.backend.accounts.new_code(
            AuthorizationCode(self.backend.accounts.create(email, plan, access_lifetime))
        )

    def sign_in_browser(self, account_id: str) -> None:
        """Make the browser sign in to this account from now on; by default each sign-in creates a new account."""
        self.backend.accounts.in_browser = self.backend.accounts.by_id[account_id]

    def deny_sign_ins(self) -> None:
        """Send the browser back with access_denied from now on."""
        self.backend.accounts.denies_sign_ins = True

    def ignore_token_requests(self, count: int = 1) -> None:
        """Send no response to the next `count` requests to the token endpoint; their tokens stay unspent."""
        self.backend.accounts.silent_token_requests = count

    @property
    def refreshes(self) -> int:
        """How many token refreshes succeeded."""
        return self.backend.accounts.refreshes

    def expire_access_tokens(self) -> None:
        """Every access token issued so far now gets 401 token_expired."""
        self.backend.accounts.expire("access")

    def expire_refresh_tokens(self) -> None:
        """Every refresh token issued so far now gets 401 refresh_token_expired."""
        self.backend.accounts.expire("refresh")

    def revoke(self, account_id: str) -> None:
        """End an account's sign-in: 401 token_invalidated, and its refresh tokens are refused."""
        self.backend.accounts.by_id[account_id].revoked = True

    def use_up_quota(self, account_id: str, resets_in: float = 3600) -> None:
        """429 usage_limit_reached for the next resets_in seconds."""
        self.backend.accounts.by_id[account_id].quota_resets_at = time.time() + resets_in

    def restore_quota(self, account_id: str) -> None:
        """Restore a used-up quota."""
        self.backend.accounts.by_id[account_id].quota_resets_at = None
