"""Sessions: who has signed in. They are rows, so that a sign-out counts in all workers at once.

The cookie is the random token of a session, encrypted and signed with the installation's secret key. The database has
only its hash. So neither a copy of the database nor a forged cookie gives access.
"""

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

import peewee

from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage.db import execute, select, transaction
from floway_dashboard.settings import SESSION_HOURS

MAX_COOKIE_CHARACTERS = 1000


@dataclass(frozen=True)
class Session:
    """A session that has not ended."""

    id: str
    """The hash of its token, which is its key in the database."""
    role: str
    """``operator`` or ``viewer``."""
    address: str
    """The address from which the session was begun."""
    created_at: int
    """Unix time, seconds."""
    expires_at: int
    form_token: str = ""
    """The token that each of its forms has to contain; empty in lists of sessions."""

    @property
    def may_change(self) -> bool:
        """Whether it is that of an operator."""
        return self.role == "operator"


def begin(services: Services, role: str, address: str, admin_token: str | None) -> tuple[str, int]:
    """Begin a session.

    :param admin_token: the token that was used to sign in; None for a password. The session ends when it changes.
    :returns: the cookie, and for how many seconds it is valid.
    """
    token, now = secrets.token_urlsafe(32), int(time.time())
    seconds = int(services.settings.plugin[SESSION_HOURS]) * 3600
    proof = _keyed(token, admin_token) if admin_token else None
    with transaction(services.database):
        execute(services.database, "DELETE FROM dashboard_sessions WHERE expires_at <= ?", now)
        execute(
            services.database,
            "INSERT INTO dashboard_sessions (id, role, token_proof, address, created_at, expires_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(_hash(token), role, proof, address[:64], now, now + seconds),
        )
    return services.secrets.encrypt(json.dumps({"dashboard": token})), seconds


def find(services: Services, cookie: str) -> Session | None:
    """Return the session of a cookie; None if it has ended, or there is none."""
    token = _open(services, cookie)
    if token is None:
        return None
    rows = select(
        services.database,
        "SELECT id, role, address, created_at, expires_at, token_proof FROM dashboard_sessions "
        "WHERE id = ? AND expires_at > ?",
        *(_hash(token), int(time.time())),
    )
    if not rows:
        return None
    session_id, role, address, created_at, expires_at, proof = rows[0]
    if proof is not None and not hmac.compare_digest(proof, _keyed(token, services.settings.admin_token or "")):
        return None
    return Session(session_id, role, address, created_at, expires_at, _keyed(token, "form"))


def list_running(database: peewee.Database) -> list[Session]:
    """Return all sessions, the newest first."""
    rows = select(
        database,
        "SELECT id, role, address, created_at, expires_at FROM dashboard_sessions WHERE expires_at > ? "
        "ORDER BY created_at DESC, id",
        int(time.time()),
    )
    return [Session(*row) for row in rows]


def end(database: peewee.Database, session_id: str) -> bool:
    """End a session; return whether there was one."""
    with transaction(database):
        return bool(execute(database, "DELETE FROM dashboard_sessions WHERE id = ?", session_id).rowcount)


def end_role(database: peewee.Database, role: str) -> None:
    """End the sessions of ``role``."""
    with transaction(database):
        execute(database, "DELETE FROM dashboard_sessions WHERE role = ?", role)


def leave_notice(database: peewee.Database, session_id: str, sentence: str) -> None:
    """Store a sentence that the next page of a session shows."""
    with transaction(database):
        execute(database, "UPDATE dashboard_sessions SET notice = ? WHERE id = ?", sentence, session_id)


def take_notice(database: peewee.Database, session_id: str) -> str | None:
    """Return the sentence that was stored for the next page, and delete it; None if there is none."""
    rows = select(database, "SELECT notice FROM dashboard_sessions WHERE id = ? AND notice IS NOT NULL", session_id)
    if not rows:
        return None
    with transaction(database):
        execute(database, "UPDATE dashboard_sessions SET notice = NULL WHERE id = ?", session_id)
    return str(rows[0][0])


def _open(services: Services, cookie: str) -> str | None:
    """Return the token in a cookie; None if the cookie is not one of this installation."""
    if not cookie or len(cookie) > MAX_COOKIE_CHARACTERS or not cookie.isascii():
        return None
    try:
        content = json.loads(services.secrets.decrypt(cookie))
    except (GatewayError, ValueError):  # forged, or encrypted with another key
        return None
    token = content.get("dashboard") if isinstance(content, dict) else None
    return token if isinstance(token, str) else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _keyed(token: str, text: str) -> str:
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()
