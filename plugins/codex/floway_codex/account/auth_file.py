"""Import of auth.json, the file in which the codex CLI stores a sign-in."""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import peewee

from floway_codex.account import jwt
from floway_codex.account.accounts import ACTIVE
from floway_codex.tables import Accounts, Clients, Credentials, Health, Tokens
from floway_core.contexts import Services, Upstream
from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.db import lock_row, transaction

KIND = "codex"
AUTH_CLAIM = "https://api.openai.com/auth"
PROFILE_CLAIM = "https://api.openai.com/profile"


@dataclass(frozen=True)
class AuthFile:
    """The account and the tokens of an auth.json."""

    account_id: str
    user_id: str
    plan: str
    email: str
    access_token: str
    refresh_token: str
    id_token: str


def parse_auth_file(auth_json: Any) -> AuthFile:
    """Read the account and the tokens from a parsed auth.json. The account is that of the id token.

    :raises ValueError: something is missing; the message says what, and quotes no token.
    """
    tokens = auth_json.get("tokens") if isinstance(auth_json, dict) else None
    if not isinstance(tokens, dict):
        raise ValueError("it holds no ChatGPT sign-in (an object 'tokens'); run `codex login` and use its auth.json")
    token_values = {
        name: _text(tokens, name, f"tokens.{name}") for name in ("access_token", "refresh_token", "id_token")
    }
    try:
        claims = jwt.decode_claims(token_values["id_token"])
    except ValueError as error:
        raise ValueError(f"tokens.id_token is {error}") from None
    auth = _object(claims, AUTH_CLAIM)
    profile = _object(claims, PROFILE_CLAIM)
    return AuthFile(
        account_id=_text(auth, "chatgpt_account_id", "the account id in tokens.id_token"),
        user_id=_text(auth, "chatgpt_user_id", "the user id in tokens.id_token"),
        plan=_text(auth, "chatgpt_plan_type", "the plan in tokens.id_token"),
        email=_text(profile if profile.get("email") else claims, "email", "the email in tokens.id_token"),
        **token_values,
    )


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    child = parent.get(name)
    return child if isinstance(child, dict) else {}


def _text(parent: dict[str, Any], name: str, shown: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or not value.isascii():
        raise ValueError(f"{shown} is missing or not a text")
    return value.strip()


def import_account(services: Services, auth_json: Any, name: str | None = None) -> Upstream:
    """Store the account of a parsed auth.json as an upstream.

    An existing account keeps its upstream and installation id, gets the new tokens, and becomes active.

    :param name: the name of the upstream; by default made from the account's email.
    :raises ValueError: the auth.json is not usable; the message quotes no token.
    :raises GatewayError: 409, the name is taken, or the account already has an upstream of another name.
    """
    sign_in = parse_auth_file(auth_json)
    database = services.database
    try:
        with transaction(database):
            upstream = _update_account(services, sign_in, name) or _add_account(services, sign_in, name)
            _store_tokens(services, upstream.id, sign_in)
    except peewee.IntegrityError:
        raise GatewayError(409, "This account is being imported by another process as well; try again.") from None
    return upstream


def _update_account(services: Services, sign_in: AuthFile, name: str | None) -> Upstream | None:
    """Update the account if it has an upstream already; None if it has none."""
    database = services.database
    changed = {"user_id": sign_in.user_id, "email": sign_in.email, "plan": sign_in.plan, "imported_at": _now()}
    mine = Accounts.account_id == sign_in.account_id
    upstream_id = Accounts.select(Accounts.upstream_id).where(mine).scalar(database)
    if upstream_id is None:
        return None
    lock_row(database, "upstreams", upstream_id)
    if not Accounts.update(changed).where(mine, Accounts.upstream_id == upstream_id).execute(database):
        return None  # another process has just removed it
    upstream = next(row for row in upstreams.all_rows(database) if row.id == upstream_id)
    if name not in (None, upstream.name):
        raise GatewayError(
            409, f"This account is already the upstream {upstream.name!r}; import it without a name.", param="name"
        )
    return upstream


def _add_account(services: Services, sign_in: AuthFile, name: str | None) -> Upstream:
    upstream = upstreams.add(services.database, KIND, name) if name else _add_by_default_name(services, sign_in)
    Accounts.insert(
        upstream_id=upstream.id,
        account_id=sign_in.account_id,
        user_id=sign_in.user_id,
        email=sign_in.email,
        plan=sign_in.plan,
        installation_id=str(uuid.uuid4()),
        imported_at=_now(),
    ).execute(services.database)
    Clients.insert(upstream_id=upstream.id, clients_json="[]").execute(services.database)
    return upstream


def _add_by_default_name(services: Services, sign_in: AuthFile) -> Upstream:
    """Name the upstream by the email. One email may have several accounts, such as a private one and a team's."""
    names = {row.name for row in upstreams.all_rows(services.database)}
    name = f"codex-{sign_in.email}"
    return upstreams.add(services.database, KIND, f"{name}-{sign_in.account_id[:8]}" if name in names else name)


def _store_tokens(services: Services, upstream_id: str, sign_in: AuthFile) -> None:
    database, encrypt = services.database, services.secrets.encrypt
    encrypted = {"refresh_token": encrypt(sign_in.refresh_token), "id_token": encrypt(sign_in.id_token)}
    no_lease = {"lease_owner": None, "lease_until": 0}
    Credentials.insert(upstream_id=upstream_id, **encrypted, version=1, **no_lease).on_conflict(
        conflict_target=[Credentials.upstream_id], update={**encrypted, **no_lease, "version": Credentials.version + 1}
    ).execute(database)
    # A token without an expiry may be days old: 0 makes the first request renew it.
    token = {"access_token": encrypt(sign_in.access_token), "expires_at": jwt.read_expiry(sign_in.access_token) or 0}
    Tokens.insert(upstream_id=upstream_id, **token).on_conflict(
        conflict_target=[Tokens.upstream_id], update=token
    ).execute(database)
    health = {"state": ACTIVE, "message": "", "since": _now()}
    Health.insert(upstream_id=upstream_id, **health).on_conflict(
        conflict_target=[Health.upstream_id], update=health
    ).execute(database)


def _now() -> int:
    return int(time.time())
