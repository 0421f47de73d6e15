"""The simulator as a whole: start it, script it, look at what it got; or serve it in the foreground."""

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from .accounts import DEFAULT_LIFETIME, Code, auth_json
from .backend import Backend, Step
from .recording import RecordedRequest, RequestLog
from .wire import Wire

JSON = Any


class Simulator:
    """The ChatGPT/Codex backend and its token endpoint on loopback.

    Usable as a context manager, or with start() and stop(); port 0 takes a free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.port = host, port
        self.backend, self.log = Backend(), RequestLog()
        self.gate = threading.Event()  # answers are given while it is set
        self.gate.set()
        self._wire: Wire | None = None

    def start(self) -> "Simulator":
        """Listen, in threads of its own."""
        self._wire = Wire((self.host, self.port), self)
        self.port = self._wire.server_address[1]
        # stop() waits for the loop to notice; its default of half a second would be felt in every test.
        threading.Thread(target=self._wire.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Close every connection and stop listening; what was recorded stays."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def __enter__(self) -> "Simulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """http://HOST:PORT"""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The data plane: POST base_url/codex/responses and so on."""
        return f"{self.url}/backend-api"

    @property
    def auth_url(self) -> str:
        """The token endpoint."""
        return f"{self.url}/oauth/token"

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


def serve(host: str, port: int, auth_file: Path | None) -> None:
    """Run in the foreground until SIGINT or SIGTERM, with one account.

    Prints what a shell has to run for Floway to use it, and writes the account's auth.json to ``auth_file``.

    :raises OSError: nobody can listen there, or the file cannot be written.
    """
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Simulator(host, port) as simulator:
            auth = simulator.new_account()
            lines = [
                f"export FLOWAY_CODEX_BASE_URL={simulator.base_url}",
                f"export FLOWAY_CODEX_AUTH_URL={simulator.auth_url}",
            ]
            if auth_file is not None:
                write_private(auth_file, json.dumps(auth, indent=2) + "\n")
                lines.append(f"floway codex import {shlex.quote(str(auth_file.absolute()))}")
            note = "A stand-in of the Codex backend runs here until Ctrl-C. Run this where Floway is to use it:"
            print(note, file=sys.stderr, flush=True)
            print(*lines, sep="\n", flush=True)
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, also where one with other permissions was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
