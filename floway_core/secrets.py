"""Encryption of credentials at rest."""

import base64
import functools
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from floway_core.errors import GatewayError, StartupError

KEY_FILE = "secret.key"
"""Its name in the data folder."""


class DecryptionError(GatewayError):
    """What was sealed cannot be opened: it is damaged, or was sealed with another key. Reaches a client as a 503."""

    def __init__(self) -> None:
        message = (
            "Stored credentials cannot be decrypted: FLOWAY_SECRET_KEY (or secret.key in the data folder) is not "
            "the one they were stored with."
        )
        super().__init__(503, message, code="credentials_unreadable")


class SecretBox:
    """Seals and opens small texts (Fernet: AES-128-CBC with HMAC-SHA256, library ``cryptography``).

    There may be several keys, while they are rotated: the first one seals, all of them open.
    """

    def __init__(self, secret_key: str, file: Path | None = None) -> None:
        """:param secret_key: any text, a key in each of its lines; the encryption keys are derived from them.
        :param file: where that stands. It is read again when it has changed, so that no process need be restarted.
        """
        self._file = file
        self._version: tuple[int, int] | None = None
        self._use(secret_key)
        self._open = functools.lru_cache(maxsize=1024)(self._decrypt)  # every request opens the same few

    def _use(self, secret_key: str) -> None:
        self._keys = tuple(map(_derived, keys_in(secret_key)))

    def _decrypt(self, sealed: str) -> str:
        for key in self._keys:
            try:
                return key.decrypt(sealed.encode("ascii")).decode()
            except InvalidToken:
                continue
        raise InvalidToken

    def _reread(self) -> None:
        """Take the keys from the file if it has changed."""
        version = _version(self._file)
        if self._file is None or version in (None, self._version):
            return
        try:
            text = self._file.read_text()
        except (OSError, UnicodeDecodeError):
            return
        if keys_in(text):
            self._use(text)
        self._version = version

    def encrypt(self, text: str) -> str:
        """``text`` encrypted with the first key, as ASCII."""
        self._reread()
        return self._keys[0].encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """What ``seal`` was given.

        :raises DecryptionError: sealed with another key, or damaged.
        """
        keys = self._keys
        try:
            return self._open(sealed)
        except (InvalidToken, UnicodeError):
            self._reread()
            if self._keys is keys:  # else there are others, whoever was the one to read them
                raise DecryptionError from None
        return self.open(sealed)

    def opens(self, sealed: str) -> bool:
        """Whether ``open`` would succeed."""
        try:
            self.open(sealed)
        except DecryptionError:
            return False
        return True


def _derived(key: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"floway credentials v1").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _version(file: Path | None) -> tuple[int, int] | None:
    """What changes when the file is replaced or written; None when there is no such file."""
    try:
        found = file.stat() if file else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino) if found else None


# --------------------------------------------------------------------------------------------------------------- keys
def keys_in(text: str) -> list[str]:
    """The secret keys in ``text``, one in each line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def new_key() -> str:
    """A secret key of 256 random bits."""
    return secrets.token_urlsafe(32)


def read_or_create_key(file: Path) -> str:
    """The text of the secret key ``file``, which is made (mode 0600) when it does not exist.

    Several processes may start at once: the file appears complete, and all of them read the same one.

    :raises StartupError: the file is empty or cannot be read or made.
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
    """Replace what the secret key file holds, in one step that survives a power cut; its owner stays the same.

    :raises StartupError: it cannot be written.
    """
    try:
        owner = file.stat()
        draft = _draft(file, keys)
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
    draft = _draft(file, [new_key()])
    try:
        os.link(draft, file)
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink()


def _draft(file: Path, keys: Iterable[str]) -> Path:
    """A new file beside ``file``, for its owner alone and safely on the disk."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("".join(f"{key}\n" for key in keys))
        out.flush()
        os.fsync(out.fileno())
    return draft
