"""Encryption of credentials at rest."""

import base64
import functools
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from floway_core.errors import GatewayError, StartupError

KEY_FILE = "secret.key"
"""Name of the secret key file in the data folder."""


class DecryptionError(GatewayError):
    """A stored value is damaged, or was encrypted with another key. Clients get a 503."""

    def __init__(self) -> None:
        message = (
            "Stored credentials cannot be decrypted: FLOWAY_SECRET_KEY (or secret.key in the data folder) is not "
            "the one they were stored with."
        )
        super().__init__(503, message, code="credentials_unreadable")


class SecretBox:
    """Encrypts and decrypts short texts (Fernet: AES-128-CBC with HMAC-SHA256, library ``cryptography``).

    There are several keys while they are rotated: the first one encrypts, all of them decrypt.
    """

    def __init__(self, secret_key: str, file: Path | None = None) -> None:
        """:param secret_key: any text with one key on each line; the encryption keys are derived from them.
        :param file: the file that holds ``secret_key``. The box reads it again when it changes, so that a key rotation
            needs no restart.
        """
        self._file = file
        self._file_version: tuple[int, int] | None = None
        self._ring = _derive_ring(secret_key)
        self._cached_decrypt = functools.lru_cache(maxsize=1024)(self._decrypt)  # every request needs the same few

    def _decrypt(self, encrypted: str) -> str:
        return self._ring.decrypt(encrypted.encode("ascii")).decode()

    def _reload_if_changed(self) -> None:
        version = _file_version(self._file)
        if self._file is None or version in (None, self._file_version):
            return
        try:
            text = self._file.read_text()
        except (OSError, UnicodeDecodeError):
            return
        if split_keys(text):
            self._ring = _derive_ring(text)
        self._file_version = version

    def encrypt(self, text: str) -> str:
        """Encrypt ``text`` with the first key; return ASCII."""
        self._reload_if_changed()
        return self._ring.encrypt(text.encode()).decode("ascii")

    def decrypt(self, encrypted: str) -> str:
        """Return the text that ``encrypt`` encrypted.

        :raises DecryptionError: the value was encrypted with another key, or is damaged.
        """
        ring = self._ring
        try:
            return self._cached_decrypt(encrypted)
        except (InvalidToken, UnicodeError):
            self._reload_if_changed()
            if self._ring is ring:  # otherwise this thread or another one has loaded new keys: try those
                raise DecryptionError from None
        return self.decrypt(encrypted)

    def can_decrypt(self, encrypted: str) -> bool:
        """Whether ``decrypt`` would succeed."""
        try:
            self.decrypt(encrypted)
        except DecryptionError:
            return False
        return True


def _derive_ring(secret_key: str) -> MultiFernet:
    return MultiFernet(list(map(_derive_key, split_keys(secret_key))))


def _derive_key(key: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"floway credentials v1").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _file_version(file: Path | None) -> tuple[int, int] | None:
    """A value that changes when the file is replaced or written; None if there is no such file."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino) if status else None


# --------------------------------------------------------------------------------------------------------------- keys
def split_keys(text: str) -> list[str]:
    """Return the secret keys in ``text``, which has one on each line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def generate_key() -> str:
    """Return a new secret key of 256 random bits."""
    return secrets.token_urlsafe(32)


def read_or_create_key(file: Path) -> str:
    """Return the text of the secret key ``file``; create the file (mode 0600) if it does not exist.

    Several processes may start at once. The file appears complete, and all of them read the same one.

    :raises StartupError: the file is empty, or cannot be read or created.
    """
    try:
        if not file.exists():
            _create(file)
        text = file.read_text().strip()
    except OSError as error:
        raise StartupError(f"The secret key file {file} cannot be used: {error.strerror}.") from error
    if not text:
        raise StartupError(f"The secret key file {file} is empty.")
    return text


def write_keys(file: Path, keys: Iterable[str]) -> None:
    """Replace the content of the secret key ``file`` atomically and durably; keep its owner.

    :raises StartupError: the file cannot be written.
    """
    try:
        owner = file.stat()
        draft = _write_draft(file, keys)
        try:
            if owner.st_uid != os.geteuid():
                os.chown(draft, owner.st_uid, owner.st_gid)
            os.replace(draft, file)
        except OSError:
            draft.unlink()
            raise
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise StartupError(f"The secret key file {file} cannot be written: {error.strerror}.") from error


def _create(file: Path) -> None:
    draft = _write_draft(file, [generate_key()])
    try:
        os.link(draft, file)
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink()


def _write_draft(file: Path, keys: Iterable[str]) -> Path:
    """Write a new file beside ``file``, readable by its owner only, and sync it to the disk."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("".join(f"{key}\n" for key in keys))
        out.flush()
        os.fsync(out.fileno())
    return draft
