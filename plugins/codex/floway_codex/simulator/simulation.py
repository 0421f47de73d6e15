"""What a simulation holds, and what tests do with it: script replies, make accounts, look at what has arrived."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from .accounts import DEFAULT_LIFETIME, Code, auth_json
from .backend import Backend, Step
from .recording import RecordedRequest, RequestLog

JSON = Any


class Simulation:
    """The simulated backend, the log of its requests, and a gate for its responses. It does no I/O."""

    def __init__(self) -> None:
        self.backend, self.log = Backend(), RequestLog()
        self.gate = threading.Event()  # responses are sent while it is set
        self.gate.set()

    @property
    def requests(self) -> list[RecordedRequest]:
        """What arrived so far, in order; the control surface's own requests are not in it."""
        return self.log.all()

    @property
    def dispatches(self) -> list[RecordedRequest]:
        """Of those, the POSTs to /codex/responses and /codex/responses/compact."""
        return [request for request in self.log.all() if request.method == "POST" and "/codex/" in request.path]

    @property
    def findings(self) -> list[str]:
        """What does not agree between the dispatches so far, although each of them looks right."""
        return list(self.backend.consistency.findings)

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[RecordedRequest]:
        """Wait until `count` requests have arrived; TimeoutError after `timeout` seconds."""
        return self.log.wait_for(count, timeout)

    def clear(self) -> None:
        """Forget the requests so far, the findings, and what is left of the script."""
        self.log.clear()
        self.backend.consistency.clear()
        with self.backend.lock:
            self.backend.steps.clear()

    @contextlib.contextmanager
    def answers_held(self) -> Iterator[None]:
        """Let requests wait for their answers until the context ends; they are recorded as they arrive."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

    def script(self, *steps: Step) -> None:
        """Answers for the coming dispatches that pass the checks, in order; a function gets the request's body."""
        self.backend.script(steps)

    def new_account(
        self, email: str = "user@example.com", plan: str = "pro", access_lifetime: int = DEFAULT_LIFETIME
    ) -> JSON:
        """The auth.json of a new account; access_lifetime in seconds, negative: already expired."""
        account = self.backend.accounts.create(email, plan, access_lifetime)
        return auth_json(account, self.backend.accounts.issue(account, access_lifetime))

    def new_authorization_code(
        self, email: str = "user@example.com", plan: str = "pro", access_lifetime: int = DEFAULT_LIFETIME
    ) -> str:
        """The code a browser sign-in to a new account would end with."""
        return self.backend.accounts.new_code(Code(self.backend.accounts.create(email, plan, access_lifetime)))

    def sign_in_browser(self, account_id: str) -> None:
        """Let the browser sign in to this account from now on; otherwise each sign-in is a new account's."""
        self.backend.accounts.in_browser = self.backend.accounts.by_id[account_id]

    def deny_sign_ins(self) -> None:
        """Send the browser back with access_denied from now on."""
        self.backend.accounts.denies_sign_ins = True

    def ignore_token_requests(self, count: int = 1) -> None:
        """Leave the next `count` requests to the token endpoint without an answer; their tokens stay unspent."""
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
        """Take a used-up quota back."""
        self.backend.accounts.by_id[account_id].quota_resets_at = None
