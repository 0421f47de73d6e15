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


MAX_KEY_FILE_BYTES = 64 * 1024


class DecryptionError(GatewayError):
    """A stored value is damaged, or was encrypted with another key. Clients get a 503."""

    def __init__(self) -> None:
        message = (
            "Stored credentials cannot be decrypted: FLOWAY_SECRET_KEY (or secret.key in the data folder) is not "
            "the one they were stored with."
        )
        super().__init__(503, message, code="credentials_unreadable")


class SecretKeyMissing(DecryptionError):
    """The secret key is missing, but there are encrypted values. Clients get a 503."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.message = (
            f"The secret key {file} is missing, and stored credentials need it. Restore it from the backup, or start "
            "again with `floway secrets init --forget`, which deletes these credentials."
        )
        self.args = (self.message,)


class SecretBox:
    """Encrypts and decrypts short texts (Fernet: AES-128-CBC with HMAC-SHA256, library ``cryptography``).

    During a key rotation there are several keys: the first one encrypts, all of them decrypt.
    """

    def __init__(self, secret_key: str | None, file: Path | None = None) -> None:
        """:param secret_key: any text with one key per line; the encryption keys are derived from them. None: the
            key is missing; the box encrypts and decrypts nothing until ``file`` exists.
        :param file: the file that holds ``secret_key``. The box reads it again when it changes, so that a key rotation
            needs no restart.
        """
        self._file = file
        self._is_missing = secret_key is None
        self._file_version: tuple[int, int] | None = None
        self._ring = _derive_ring(secret_key or generate_key())
        self._cached_decrypt = functools.lru_cache(maxsize=1024)(self._decrypt)  # all requests need the same few values

    def _decrypt(self, encrypted: str) -> str:
        return self._ring.decrypt(encrypted.encode("ascii")).decode()

    def _reload_if_changed(self) -> None:
        version = _file_version(self._file)
        if self._file is None or version in (None, self._file_version):
            return
        try:
            text = _read(self._file)
        except StartupError:
            return
        self._ring = _derive_ring(text)
        self._is_missing = False
        self._file_version = version

    def encrypt(self, text: str) -> str:
        """Encrypt ``text`` with the first key; return ASCII.

        :raises SecretKeyMissing: there is no key.
        """
        self._reload_if_changed()
        self._check_missing()
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
            if self._ring is ring:  # otherwise a thread has loaded new keys: try again with them
                self._check_missing()
                raise DecryptionError from None
        return self.decrypt(encrypted)

    def _check_missing(self) -> None:
        if file := self.missing_file:
            raise SecretKeyMissing(file)

    @property
    def missing_file(self) -> Path | None:
        """The file that should hold the key, if there is none; None if there is a key."""
        return self._file if self._is_missing else None

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
    key_bytes = HKDF(hashes.SHA256(), 32, salt=None, info=b"floway credentials v1").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(key_bytes))


def _file_version(file: Path | None) -> tuple[int, int] | None:
    """A value that changes when the file is replaced or written; None if there is no such file."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino) if status else None


# --------------------------------------------------------------------------------------------------------------- keys
def split_keys(text: str) -> list[str]:
    """Return the secret keys in ``text``, one per line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def generate_key() -> str:
    """Return a new secret key of 256 random bits."""
    return secrets.token_urlsafe(32)


def read_or_create_key(file: Path) -> str:
    """Return the text of the secret key ``file``; create the file (mode 0600) if it does not exist.

    Several processes may start at once. The file appears complete, and all of them read the same one.

    :raises StartupError: the file contains no key, or cannot be read or created.
    """
    try:
        if not file.exists():
            _create(file)
    except OSError as error:
        raise StartupError(f"The secret key file {file} cannot be used: {error.strerror}.") from error
    return _read(file)


def _read(file: Path) -> str:
    """:raises StartupError: the file cannot be read, or contains no key."""
    try:
        with file.open("rb") as content:
            data = content.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise StartupError(f"The secret key file {file} cannot be used: {error.strerror}.") from error
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise StartupError(f"The secret key file {file} is empty.")
    if len(data) > MAX_KEY_FILE_BYTES or not all(
        line.isprintable() and "\ufffd" not in line for line in split_keys(text)
    ):
        raise StartupError(f"The secret key file {file} contains no secret key. Restore it from the backup.")
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
        pass  # another process has created it
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
