"""Opening a page in the browser of this machine, where there is one that its user can see."""

import contextlib
import sys
import threading
import webbrowser
from collections.abc import Mapping

REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
"""Any of them says that the user sits at another machine."""

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Without one of them, systems other than macOS and Windows have text browsers at best, which take the terminal."""


def is_here(environ: Mapping[str, str]) -> bool:
    """Whether a browser can be opened that the user of this terminal sees. ``BROWSER`` is their own word on that."""
    if not sys.stdout.isatty():
        return False
    if environ.get("BROWSER"):
        return True
    if any(environ.get(name) for name in REMOTE):
        return False
    return sys.platform in ("darwin", "win32") or any(environ.get(name) for name in DISPLAYS)


def show(url: str) -> None:
    """Open ``url``, as far as that is possible, without waiting: some browsers return only when they are closed."""

    def work() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)

    threading.Thread(target=work, name="browser", daemon=True).start()
