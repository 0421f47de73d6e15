"""The passwords of the two roles, as hashes in the database."""

import hashlib
import hmac
import threading

import peewee
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from floway_core.contexts import Services
from floway_core.storage.db import execute, select, transaction
from floway_dashboard.access import sessions

OPERATOR, VIEWER = "operator", "viewer"
"""The roles: an operator may change everything, a viewer may only look."""

MIN_LENGTH = 12
MAX_LENGTH = 1000
"""Limits for the characters of a password. Longer texts are refused before they are hashed, which takes time."""

_hasher = PasswordHasher()
_verifying = threading.Semaphore(2)
"""Limits the hashes that run at the same time: each takes 64 MiB and 50 ms, and anybody may request one."""


class Busy(Exception):
    """This worker already verifies the largest number of passwords at the same time."""


def put(database: peewee.Database, role: str, password: str) -> None:
    """Set the password of ``role``, and end its sessions.

    :raises ValueError: it is too short or too long; the message says so.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
    hashed = _hasher.hash(password)
    with transaction(database):
        execute(
            database,
            "INSERT INTO dashboard_passwords (role, hash) VALUES (?, ?) "
            "ON CONFLICT (role) DO UPDATE SET hash = excluded.hash",
            *(role, hashed),
        )
        sessions.end_role(database, role)


def remove(database: peewee.Database, role: str) -> bool:
    """Delete the password of ``role``, and end its sessions.

    :returns: whether it had one.
    """
    with transaction(database):
        sessions.end_role(database, role)
        return bool(execute(database, "DELETE FROM dashboard_passwords WHERE role = ?", role).rowcount)


def list_roles(database: peewee.Database) -> set[str]:
    """Return the roles that have a password."""
    return {role for (role,) in select(database, "SELECT role FROM dashboard_passwords")}


def is_admin_token(services: Services, text: str) -> bool:
    """Whether ``text`` is the admin token of the installation."""
    token = services.settings.admin_token
    # Hashes are compared because the time of a comparison depends on the length of the texts.
    return token is not None and hmac.compare_digest(_digest(text), _digest(token))


def find_role(database: peewee.Database, password: str) -> str | None:
    """Return the role whose password this is; None if it matches none.

    :raises Busy: try again in a moment.
    """
    if len(password) > MAX_LENGTH:
        return None
    if not _verifying.acquire(blocking=False):
        raise Busy
    try:
        rows = select(database, "SELECT role, hash FROM dashboard_passwords ORDER BY role")
        return next((role for role, hashed in rows if _verify(hashed, password)), None)
    finally:
        _verifying.release()


def _verify(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except VerificationError:
        return False


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
