"""Changing a configuration file of a user: the difference, a backup, and the file as a whole or not at all."""

import difflib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PRIVATE = 0o600
"""The mode of a file with a secret."""


@dataclass(frozen=True)
class Change:
    """The new text of a file."""

    path: Path
    before: str | None
    """None if there is no file."""
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether the file does not have the new text already."""
        return self.after != self.before

    def diff(self, mask: Callable[[str], str]) -> str:
        """Return the difference as a unified diff.

        :param mask: hides secrets in a text.
        """
        before = mask(self.before or "").splitlines(keepends=True)
        names = (str(self.path) if self.before is not None else os.devnull, str(self.path))
        lines = difflib.unified_diff(before, mask(self.after).splitlines(keepends=True), *names)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def read(path: Path) -> str | None:
    """Return the text of a file; None if there is none.

    :raises ValueError: it cannot be read as text.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from None


def write(change: Change, is_secret: bool) -> Path | None:
    """Replace a file atomically by one with the new text, and keep the old one next to it.

    A symbolic link stays, and the file that it leads to is replaced.

    :param is_secret: whether only its owner may read the new file; otherwise it has the mode of the old one.
    :returns: the backup; None if there was no file.
    :raises OSError: a file cannot be written; the old one is as it was.
    """
    path = change.path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = None
    mode = PRIVATE if is_secret else 0o644
    if change.before is not None:
        old_mode = stat.S_IMODE(path.stat().st_mode)
        mode = old_mode & PRIVATE if is_secret else old_mode
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        backup = _new_name(path.with_name(f"{path.name}.{stamp}.bak"))
        _replace(backup, change.before, old_mode)
    _replace(path, change.after, mode)
    return backup


def _new_name(path: Path) -> Path:
    """Return ``path``, or a similar one that no file has."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def _replace(path: Path, text: str, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
