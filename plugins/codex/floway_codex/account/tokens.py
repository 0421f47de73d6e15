"""Access tokens for requests. One thread of one process at a time renews the token of an account."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import peewee

from floway_codex.account import accounts, credentials, jwt, oauth
from floway_codex.account.accounts import Account
from floway_codex.account.credentials import RefreshToken
from floway_codex.account.metrics import RenewalCounter
from floway_codex.wire.profile import Profile
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.upstream import HttpClient

MIN_REMAINING_SECONDS = 300
"""A token that expires sooner is renewed before use."""
REPLACEMENT_PAUSE_SECONDS = 30
"""Time without another renewal if the token that has replaced a refused one is refused as well: the next one would be,
too. The CLI sends such a request up to 30 times."""
DEFAULT_LIFETIME_SECONDS = 3600
"""The lifetime of a new token when neither its claims nor the response state one."""
POLL_INTERVALS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""The waits between checks whether another process has renewed the token; the last one repeats."""
STORE_ATTEMPTS = 6
LOST_IN_RENEWAL = (
    "a process of Floway was killed between the answer of the token endpoint and its storage, so the new token is lost"
)
REPLACED = "The account has been signed in again or signed out meanwhile; try again."

log = logging.getLogger("floway.codex")


@dataclass(frozen=True)
class TokenSource:
    """Supplies the access tokens of all upstreams. One per process, shared by all threads."""

    services: Services
    http: HttpClient
    url: str
    """The URL of the token endpoint."""
    profile: Profile
    lease: int
    """Seconds after which a process that renews a token counts as dead. Each step of the exchange with the token
    endpoint gets a quarter of it, so a live process has finished by then."""
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    profile_for: Callable[[str], Profile] | None = None
    """The profile for requests about an upstream's account; by default ``profile``."""
    renewals: RenewalCounter = field(default_factory=RenewalCounter)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _failures: dict[str, list[GatewayError]] = field(default_factory=dict)
    """The latest failure of each upstream. Threads that waited for the failed renewal raise it as well."""
    _replacements: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The latest token that has replaced a refused one, and when, by upstream, until the backend accepts it."""

    def token_for_account(self, account: Account) -> str:
        """Like ``access_token``, for an account that was read for this request."""
        expires_at = account.token_expires_at or 0
        if account.encrypted_token and expires_at > self.now() + MIN_REMAINING_SECONDS:
            return self.services.secrets.decrypt(account.encrypted_token)
        return self.access_token(account.upstream_id)

    def access_token(self, upstream_id: str, reason: str = oauth.PROACTIVE) -> str:
        """An access token that is valid for more than five minutes; it is renewed if necessary.

        :param reason: why a renewal would be necessary; it is sent to the token endpoint.
        :raises GatewayError: 503; the account cannot be used, or the token cannot be renewed now.
        """
        if token := self._read_fresh(upstream_id):
            return token
        failures = self._failures.setdefault(upstream_id, [])
        earlier_failures = failures[-1:]
        with self._locks.setdefault(upstream_id, threading.Lock()):
            if token := self._read_fresh(upstream_id):
                return token
            if failures[-1:] != earlier_failures:  # it failed while this thread waited for the lock
                raise failures[-1].with_traceback(None)
            try:
                return self._renew(upstream_id, reason)
            except GatewayError as error:
                failures[:] = [error]
                raise

    def discard(self, upstream_id: str, token: str) -> bool:
        """Delete ``token``, which the backend has refused. Returns False if another token has replaced it already."""
        return credentials.clear_access_token(self.services, upstream_id, token)

    def replace_refused(self, upstream_id: str, refused: str) -> str:
        """An access token other than ``refused``, which the backend has refused.

        :raises GatewayError: 503, the token cannot be renewed.
        """
        self.discard(upstream_id, refused)
        token = self.access_token(upstream_id, oauth.UNAUTHORIZED)
        self._replacements[upstream_id] = token, self.now()
        return token

    def is_useless_to_replace(self, upstream_id: str, token: str) -> bool:
        """Whether ``token`` has just replaced a refused one, and the backend has never accepted it."""
        replacement, since = self._replacements.get(upstream_id, ("", 0.0))
        return replacement == token and self.now() < since + REPLACEMENT_PAUSE_SECONDS

    def note_accepted(self, upstream_id: str) -> None:
        """Note that the backend has accepted a token of the account."""
        self._replacements.pop(upstream_id, None)

    def _read_fresh(self, upstream_id: str) -> str | None:
        token = credentials.read_access_token(self.services, upstream_id)
        return token.value if token and token.expires_at > self.now() + MIN_REMAINING_SECONDS else None

    def _renew(self, upstream_id: str, reason: str) -> str:
        """Renew the token, or wait until another process has renewed it."""
        deadline = self.now() + 1.25 * self.lease
        polls = 0
        while True:
            accounts.require_active(self.services, upstream_id)
            was_abandoned = credentials.is_lease_abandoned(self.services, upstream_id, int(self.now()))
            lease = credentials.acquire_lease(self.services, upstream_id, int(self.now()), self.lease)
            if lease:
                try:
                    accounts.require_active(self.services, upstream_id)  # the previous owner may have changed it
                    return self._read_fresh(upstream_id) or self._exchange(upstream_id, reason, was_abandoned)
                finally:
                    self._release_lease(upstream_id, lease)
            if self.now() >= deadline:
                raise oauth.refresh_unavailable("Another process is renewing it and does not finish.")
            self.sleep(POLL_INTERVALS_SECONDS[min(polls, len(POLL_INTERVALS_SECONDS) - 1)])
            polls += 1
            if token := self._read_fresh(upstream_id):
                return token

    def _release_lease(self, upstream_id: str, lease: str) -> None:
        """Release the lease. A failure of the database is only logged: the token is valid, and the lease expires."""
        try:
            credentials.release_lease(self.services, upstream_id, lease)
        except DATABASE_ERRORS as error:
            log.warning("The lease of upstream %s could not be released, and expires: %s", upstream_id, error)

    def _exchange(self, upstream_id: str, reason: str, was_abandoned: bool) -> str:
        """Spend the refresh token. If another process has spent it first, use the tokens that it got.

        :param was_abandoned: another process has begun a renewal and not finished it. If it has spent the refresh
            token, nobody has the next one.
        """
        refresh_token = self._read_refresh_token(upstream_id)
        try:
            return self._spend(upstream_id, refresh_token, reason)
        except oauth.GrantRefused as refusal:
            current = self._read_refresh_token(upstream_id)
            if refusal.code in oauth.REUSED_CODES and current.version == refresh_token.version and was_abandoned:
                refusal = oauth.GrantRefused(refusal.code, LOST_IN_RENEWAL)
            if refusal.code not in oauth.REUSED_CODES or current.version == refresh_token.version:
                raise self._terminate(upstream_id, refresh_token, refusal) from refusal
        if token := self._read_fresh(upstream_id):
            return token
        try:
            return self._spend(upstream_id, current, reason)
        except oauth.GrantRefused as refusal:
            raise self._terminate(upstream_id, current, refusal) from refusal

    def _read_refresh_token(self, upstream_id: str) -> RefreshToken:
        stored = credentials.read_refresh_token(self.services, upstream_id)
        if stored is None:  # the upstream has just been removed or signed out
            raise oauth.refresh_unavailable("The upstream has no account any more.")
        return stored

    def _spend(self, upstream_id: str, refresh_token: RefreshToken, reason: str) -> str:
        profile = self.profile_for(upstream_id) if self.profile_for else self.profile
        with self.renewals.count(reason):
            grant = oauth.refresh_grant(self.http, self.url, profile, refresh_token.value, reason, self.lease / 4)
        expires_at = jwt.read_expiry(grant.access_token) or int(
            self.now() + (grant.expires_in or DEFAULT_LIFETIME_SECONDS)
        )
        stored = self._store_with_retries(
            lambda: credentials.store_renewed_tokens(
                self.services,
                upstream_id,
                refresh_token.version,
                grant.refresh_token or refresh_token.value,
                grant.id_token,
                grant.access_token,
                expires_at,
            )
        )
        if stored:
            return grant.access_token
        # A new sign-in has replaced the credentials meanwhile: use its tokens.
        if token := self._read_fresh(upstream_id):
            return token
        raise oauth.refresh_unavailable(REPLACED)

    def _store_with_retries(self, store: Callable[[], bool]) -> bool:
        """Store tokens, with retries while the database is busy or restarting: the old refresh token is void."""
        for attempt in range(STORE_ATTEMPTS):
            try:
                return store()
            except (peewee.OperationalError, peewee.InterfaceError) as error:
                log.error("Renewed tokens could not be stored (%s), attempt %d", type(error).__name__, attempt + 1)
                self.sleep(2**attempt / 4)
        raise oauth.refresh_unavailable(
            "The renewed tokens could not be stored; the account may have to be signed in again."
        )

    def _terminate(self, upstream_id: str, refused: RefreshToken, refusal: oauth.GrantRefused) -> GatewayError:
        done = accounts.terminate(self.services, upstream_id, accounts.REFRESH_FAILED, str(refusal), refused.version)
        if not done:
            return oauth.refresh_unavailable(REPLACED)
        log.warning("Codex upstream %s is %s: %s", upstream_id, accounts.REFRESH_FAILED, refusal.code)
        return accounts.unavailable_error(accounts.REFRESH_FAILED, str(refusal))
