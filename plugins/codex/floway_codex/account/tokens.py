"""Access tokens: a fresh one for every request, renewed by one thread of one process at a time."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import peewee

from floway_codex.account import accounts, credentials, jwt, oauth
from floway_codex.account.accounts import Account
from floway_codex.account.credentials import RefreshToken
from floway_codex.account.metrics import Renewals
from floway_codex.wire.profile import Profile
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.upstream import HttpClient

FRESH_FOR = 300
"""Seconds that a token has left at least when it is used."""
UNKNOWN_LIFETIME = 3600
"""Seconds that a new token is used when nothing says how long it lasts."""
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between looks at what another process is doing; the last one repeats."""
STORE_ATTEMPTS = 6
REPLACED = "The account has been signed in anew, or out, meanwhile; try again."

log = logging.getLogger("floway.codex")


@dataclass(frozen=True)
class TokenSource:
    """Where the access tokens of all upstreams come from. One per process; shared by all threads."""

    services: Services
    http: HttpClient
    url: str
    """Of the token endpoint."""
    profile: Profile
    lease: int
    """Seconds after which a process that renews is taken for dead. The token endpoint gets a quarter of it for each
    step, so that one that lives is done by then."""
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    renewals: Renewals = field(default_factory=Renewals)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _failures: dict[str, list[GatewayError]] = field(default_factory=dict)
    """The latest failure of each upstream, and how many there were: threads that waited for one share it."""

    def of_account(self, account: Account) -> str:
        """As ``access_token``, for an account that was read just now."""
        if account.sealed_token and account.token_expires_at > self.now() + FRESH_FOR:
            return self.services.secrets.open(account.sealed_token)
        return self.access_token(account.upstream_id)

    def access_token(self, upstream_id: str, reason: str = oauth.PROACTIVE) -> str:
        """An access token with more than five minutes left, renewed if need be.

        :param reason: why it would have to be renewed, for the token endpoint.
        :raises GatewayError: 503; the account cannot be used, or the token cannot be renewed now.
        """
        if token := self._fresh(upstream_id):
            return token
        failures = self._failures.setdefault(upstream_id, [])
        seen = failures[-1:]
        with self._locks.setdefault(upstream_id, threading.Lock()):
            if token := self._fresh(upstream_id):
                return token
            if failures[-1:] != seen:  # it failed while this thread waited for the lock
                raise failures[-1].with_traceback(None)
            try:
                return self._renewed(upstream_id, reason)
            except GatewayError as error:
                failures[:] = [error]
                raise

    def discard(self, upstream_id: str, token: str) -> bool:
        """Forget ``token``, which the backend has refused; False when another one has taken its place already."""
        return credentials.clear_access_token(self.services, upstream_id, token)

    def replacement(self, upstream_id: str, refused: str) -> str:
        """Another access token than ``refused``, which the backend takes no more.

        :raises GatewayError: 503, there is none.
        """
        self.discard(upstream_id, refused)
        return self.access_token(upstream_id, oauth.UNAUTHORIZED)

    def _fresh(self, upstream_id: str) -> str | None:
        token = credentials.read_access_token(self.services, upstream_id)
        return token.value if token and token.expires_at > self.now() + FRESH_FOR else None

    def _renewed(self, upstream_id: str, reason: str) -> str:
        """Renew the token, or wait until another process has."""
        deadline = self.now() + 1.25 * self.lease
        looks = 0
        while True:
            accounts.require_active(self.services, upstream_id)
            lease = credentials.take_lease(self.services, upstream_id, int(self.now()), self.lease)
            if lease:
                try:
                    accounts.require_active(self.services, upstream_id)  # what the last owner of the lease left
                    return self._fresh(upstream_id) or self._exchange(upstream_id, reason)
                finally:
                    credentials.drop_lease(self.services, upstream_id, lease)
            if self.now() >= deadline:
                raise oauth.unreachable("Another process is renewing it and does not finish.")
            self.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
            looks += 1
            if token := self._fresh(upstream_id):
                return token

    def _exchange(self, upstream_id: str, reason: str) -> str:
        """Spend the refresh token. If somebody else was first after all, use what they got."""
        spent = self._refresh_token(upstream_id)
        try:
            return self._spend(upstream_id, spent, reason)
        except oauth.GrantRefused as refusal:
            current = self._refresh_token(upstream_id)
            if refusal.code not in oauth.RACED or current.version == spent.version:
                raise self._give_up(upstream_id, spent, refusal) from refusal
        if token := self._fresh(upstream_id):
            return token
        try:
            return self._spend(upstream_id, current, reason)
        except oauth.GrantRefused as refusal:
            raise self._give_up(upstream_id, current, refusal) from refusal

    def _refresh_token(self, upstream_id: str) -> RefreshToken:
        stored = credentials.read_refresh_token(self.services, upstream_id)
        if stored is None:  # the upstream was removed or signed out just now
            raise oauth.unreachable("The upstream has no account any more.")
        return stored

    def _spend(self, upstream_id: str, spent: RefreshToken, reason: str) -> str:
        with self.renewals.counted(reason):
            grant = oauth.refresh(self.http, self.url, self.profile, spent.value, reason, self.lease / 4)
        expires_at = jwt.expiry(grant.access_token) or int(self.now() + (grant.expires_in or UNKNOWN_LIFETIME))
        stored = self._insist(
            lambda: credentials.replace(
                self.services,
                upstream_id,
                spent.version,
                grant.refresh_token or spent.value,
                grant.id_token,
                grant.access_token,
                expires_at,
            )
        )
        if stored:
            return grant.access_token
        # A new sign-in came in between: its tokens are the ones to use.
        if token := self._fresh(upstream_id):
            return token
        raise oauth.unreachable(REPLACED)

    def _insist(self, store: Callable[[], bool]) -> bool:
        """The spent refresh token is void by now, so a database that is busy or restarting is asked again."""
        for attempt in range(STORE_ATTEMPTS):
            try:
                return store()
            except (peewee.OperationalError, peewee.InterfaceError) as error:
                log.error("Renewed tokens could not be stored (%s), attempt %d", type(error).__name__, attempt + 1)
                self.sleep(2**attempt / 4)
        raise oauth.unreachable("The renewed tokens could not be stored; the account may have to be signed in again.")

    def _give_up(self, upstream_id: str, refused: RefreshToken, refusal: oauth.GrantRefused) -> GatewayError:
        done = accounts.terminate(self.services, upstream_id, accounts.REFRESH_FAILED, str(refusal), refused.version)
        if not done:
            return oauth.unreachable(REPLACED)
        log.warning("Codex upstream %s is %s: %s", upstream_id, accounts.REFRESH_FAILED, refusal.code)
        return accounts.unavailable(accounts.REFRESH_FAILED, str(refusal))
