"""The simulated accounts: tokens, quota, and whether the sign-in is valid."""

import base64
import json
import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .responses import Headers, RequestRefused, error_refusal, json_response

JSON = Any

PRIMARY_MINUTES, SECONDARY_MINUTES = 300, 10080
DEFAULT_LIFETIME_SECONDS = 3600


@dataclass
class Account:
    """One ChatGPT account."""

    account_id: str
    user_id: str
    email: str
    plan: str
    access_lifetime: int
    """Seconds for which its access tokens are valid."""
    revoked: bool = False
    quota_resets_at: float | None = None
    """Unix time in seconds until which the quota is used up; None if it is not."""

    def quota_is_used_up(self) -> bool:
        """True until the instant the quota resets."""
        return self.quota_resets_at is not None and time.time() < self.quota_resets_at


@dataclass
class IssuedToken:
    """An access or refresh token."""

    account: Account
    expires: float
    """Unix time in seconds."""
    used: bool = False

    def is_expired(self) -> bool:
        """Whether the token is no longer valid."""
        return self.expires <= time.time()


@dataclass(frozen=True)
class AuthorizationCode:
    """An authorization code: its account, and what the exchange must match; None if a test created it directly."""

    account: Account
    redirect_uri: str | None = None
    challenge: str | None = None


@dataclass
class Accounts:
    """Every account and every token issued.

    Nothing is deleted, so that a reused token can be distinguished from an unknown one.
    """

    by_id: dict[str, Account] = field(default_factory=dict)
    access_tokens: dict[str, IssuedToken] = field(default_factory=dict)
    refresh_tokens: dict[str, IssuedToken] = field(default_factory=dict)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    in_browser: Account | None = None
    """The account that signs in at /oauth/authorize; None for a new one each time."""
    denies_sign_ins: bool = False
    silent_token_requests: int = 0
    """How many of the next requests to the token endpoint get no response."""
    refreshes: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, email: str, plan: str, access_lifetime: int) -> Account:
        """A new account without tokens."""
        account = Account(str(uuid.uuid4()), f"user-{secrets.token_hex(12)}", email, plan, access_lifetime)
        with self.lock:
            self.by_id[account.account_id] = account
        return account

    def issue(self, account: Account, lifetime: int) -> dict[str, str]:
        """A fresh id, access and refresh token; `lifetime` of the access token in seconds."""
        now = int(time.time())
        claims = token_claims(account, now)
        tokens = {
            "id_token": unsigned_jwt({**claims, "email": account.email, "exp": now + 3600}),
            "access_token": unsigned_jwt({**claims, "exp": now + lifetime}),
            "refresh_token": f"rt_{secrets.token_urlsafe(40)}",
        }
        with self.lock:
            self.access_tokens[tokens["access_token"]] = IssuedToken(account, now + lifetime)
            self.refresh_tokens[tokens["refresh_token"]] = IssuedToken(account, now + 30 * 86400)
        return tokens

    def new_code(self, code: AuthorizationCode) -> str:
        """An authorization code for one exchange."""
        text = f"ac_{secrets.token_urlsafe(24)}"
        with self.lock:
            self.codes[text] = code
        return text

    def claim_silence(self) -> bool:
        """Whether this request to the token endpoint gets no response."""
        with self.lock:
            silent = self.silent_token_requests > 0
            self.silent_token_requests -= silent
            return silent

    def refresh(self, refresh_token: str) -> dict[str, str]:
        """Spend a refresh token for new tokens. The old access token stays valid until it expires."""
        with self.lock:
            token = self.refresh_tokens.get(refresh_token)
            if token is None or token.account.revoked:
                raise error_refusal(401, "refresh_token_invalidated", "Your session has ended. Please log in again.")
            if token.used:
                raise error_refusal(
                    401,
                    "refresh_token_reused",
                    "Your refresh token has already been used to generate a new "
                    "access token. Please try signing in again.",
                )
            if token.is_expired():
                raise error_refusal(
                    401, "refresh_token_expired", "Your refresh token has expired. Please log in again."
                )
            token.used = True
            self.refreshes += 1
            lifetime = token.account.access_lifetime
            # An account that was created with an expired token recovers by a refresh.
            return self.issue(token.account, lifetime if lifetime > 0 else DEFAULT_LIFETIME_SECONDS)

    def authorize(self, authorization: str | None) -> Account:
        """The account of an `authorization` header, or the 401 for it."""
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            raise error_refusal(401, "missing_authorization", "Unauthorized")
        with self.lock:
            token = self.access_tokens.get(value)
            if token is None:
                raise error_refusal(
                    401, "invalid_token", "Could not parse your authentication token. Please try signing in again."
                )
            if token.account.revoked:
                raise error_refusal(
                    401,
                    "token_invalidated",
                    "Your authentication token has been invalidated. Please try signing in again.",
                )
            if token.is_expired():
                raise error_refusal(
                    401, "token_expired", "Provided authentication token is expired. Please try signing in again."
                )
            return token.account

    def expire(self, kind: str) -> None:
        """Expire every token issued so far; kind: `access` or `refresh`."""
        with self.lock:
            for token in (self.access_tokens if kind == "access" else self.refresh_tokens).values():
                token.expires = 0


def token_claims(account: Account, now: int) -> JSON:
    """The claims that id and access token share."""
    auth = {
        "chatgpt_account_id": account.account_id,
        "chatgpt_user_id": account.user_id,
        "chatgpt_plan_type": account.plan,
        "user_id": account.user_id,
    }
    return {
        "iss": "https://auth.openai.com",
        "iat": now,
        "jti": str(uuid.uuid4()),
        "sub": f"auth0|{account.user_id}",
        "https://api.openai.com/auth": auth,
        "https://api.openai.com/profile": {"email": account.email, "email_verified": True},
    }


def unsigned_jwt(claims: JSON) -> str:
    """A token of three base64url segments; the signature is random and never checked."""

    def segment(value: JSON) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(claims)}.{secrets.token_hex(16)}"


def auth_json(account: Account, tokens: dict[str, str]) -> JSON:
    """The content of the CLI's auth.json."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {**tokens, "account_id": account.account_id},
        "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def quota_headers(account: Account) -> Headers:
    """The x-codex-* headers of every 200 and of the usage-limit 429; the credits balance is an empty string."""
    return tuple((f"x-codex-{name}", value) for name, value in quota_fields(account))


def quota_fields(account: Account) -> Iterator[tuple[str, str]]:
    """Names without `x-codex-`, and values."""
    now = int(time.time())
    used_up = account.quota_is_used_up()
    yield "active-limit", "codex"
    yield "plan-type", account.plan
    windows = (("primary", PRIMARY_MINUTES, 100 if used_up else 12), ("secondary", SECONDARY_MINUTES, 40))
    for window, minutes, percent in windows:
        resets_at = int(account.quota_resets_at or 0) if used_up and window == "primary" else now + minutes * 60
        yield f"{window}-used-percent", str(percent)
        yield f"{window}-window-minutes", str(minutes)
        yield f"{window}-reset-after-seconds", str(max(0, resets_at - now))
        yield f"{window}-reset-at", str(resets_at)
    yield "primary-over-secondary-limit-percent", "0"
    yield "credits-has-credits", "False"
    yield "credits-unlimited", "False"
    yield "credits-balance", ""
    yield "promo-campaign-id", ""
    yield "promo-message", ""


def usage_status(account: Account) -> JSON:
    """The answer to GET /wham/usage with the same data as the headers."""
    fields, used_up = dict(quota_fields(account)), account.quota_is_used_up()
    windows = {
        f"{window}_window": {
            "used_percent": int(fields[f"{window}-used-percent"]),
            "limit_window_seconds": int(fields[f"{window}-window-minutes"]) * 60,
            "reset_after_seconds": int(fields[f"{window}-reset-after-seconds"]),
            "reset_at": int(fields[f"{window}-reset-at"]),
        }
        for window in ("primary", "secondary")
    }
    return {
        "plan_type": account.plan,
        "rate_limit": {"allowed": not used_up, "limit_reached": used_up, **windows},
        "credits": {"has_credits": False, "unlimited": False, "balance": None},
        "additional_rate_limits": None,
    }


def rate_limits(account: Account) -> JSON:
    """The event with the same data as the headers."""
    fields = dict(quota_fields(account))
    windows = {
        window: {
            "used_percent": int(fields[f"{window}-used-percent"]),
            "window_minutes": int(fields[f"{window}-window-minutes"]),
            "reset_at": int(fields[f"{window}-reset-at"]),
        }
        for window in ("primary", "secondary")
    }
    return {
        "type": "codex.rate_limits",
        "plan_type": account.plan,
        "rate_limits": {"allowed": True, "limit_reached": False, **windows},
        "credits": {"has_credits": False, "unlimited": False, "balance": None},
    }


def check_quota(account: Account) -> None:
    """Refuse with the usage-limit 429 while the account's quota is used up."""
    if not account.quota_is_used_up():
        return
    resets_at = int(account.quota_resets_at or 0)
    body = {
        "error": {
            "type": "usage_limit_reached",
            "message": "The usage limit has been reached",
            "plan_type": account.plan,
            "resets_at": resets_at,
            "resets_in_seconds": max(0, resets_at - int(time.time())),
        }
    }
    raise RequestRefused(json_response(429, body, quota_headers(account), "429 usage_limit_reached"))
