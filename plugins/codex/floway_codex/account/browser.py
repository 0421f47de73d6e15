"""Opening a page in a browser on the user's screen."""

import contextlib
import sys
import threading
import webbrowser
from collections.abc import Mapping

REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
"""Each of them shows that the user works on another machine."""

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Without one of them, systems other than macOS and Windows have only text browsers, which occupy the terminal."""


def is_available(environ: Mapping[str, str]) -> bool:
    """Whether a browser can be opened on the screen of the user. A set ``BROWSER`` always counts as yes."""
    if not sys.stdout.isatty():
        return False
    if environ.get("BROWSER"):
        return True
    if any(environ.get(name) for name in REMOTE):
        return False
    return sys.platform in ("darwin", "win32") or any(environ.get(name) for name in DISPLAYS)


def open_page(url: str) -> None:
    """Try to open ``url``, without waiting: some browsers only return when they are closed."""

    def work() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)

    with contextlib.suppress(RuntimeError):  # no thread can be had; the user opens the page
        threading.Thread(target=work, name="browser", daemon=True).start()
