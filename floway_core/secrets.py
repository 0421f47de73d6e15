"""Encryption of credentials at rest."""

import base64
import functools
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from floway_core.errors import GatewayError, StartupError


class SealBroken(GatewayError):
    """What was sealed cannot be opened: it is damaged, or was sealed with another key. Reaches a client as a 503."""

    def __init__(self) -> None:
        message = (
            "Stored credentials cannot be decrypted: FLOWAY_SECRET_KEY (or secret.key in the data folder) is not "
            "the one they were stored with."
        )
        super().__init__(503, message, code="credentials_unreadable")


class SecretBox:
    """Seals and opens small texts with one key (Fernet: AES-128-CBC with HMAC-SHA256, library ``cryptography``)."""

    def __init__(self, secret_key: str) -> None:
        """:param secret_key: any text; the encryption key is derived from it."""
        derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"floway credentials v1").derive(secret_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))
        self._open = functools.lru_cache(maxsize=1024)(self._decrypt)  # every request opens the same few

    def _decrypt(self, sealed: str) -> str:
        return self._fernet.decrypt(sealed.encode("ascii")).decode()

    def seal(self, text: str) -> str:
        """``text`` encrypted, as ASCII."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """What ``seal`` was given.

        :raises SealBroken: sealed with another key, or damaged.
        """
        try:
            return self._open(sealed)
        except (InvalidToken, UnicodeError):
            raise SealBroken from None


def read_or_create_key(file: Path) -> str:
    """The secret key kept in ``file``, which is made (mode 0600) when it does not exist.

    Several processes may start at once: the file appears complete, and all of them read the same one.

    :raises StartupError: the file is empty or cannot be read or made.
    """
    try:
        if not file.exists():
            _create(file)
        key = file.read_text().strip()
    except OSError as error:
        raise StartupError(f"The secret key file {file} cannot be used: {error.strerror}.") from error
    if not key:
        raise StartupError(f"The secret key file {file} is empty.")
    return key


def _create(file: Path) -> None:
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(draft, file)
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink()
