"""The simulator as a whole: start and stop it, or serve it in the foreground."""

import json
import os
import shlex
import signal
import ssl
import threading
from pathlib import Path
from types import TracebackType

import click

from .http_server import HttpServer
from .simulation import Simulation


class Simulator(Simulation):
    """The ChatGPT/Codex backend and its token endpoint on loopback.

    Usable as a context manager, or with start() and stop(); port 0 takes a free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self.host, self.port = host, port
        self._server: HttpServer | None = None

    def start(self) -> "Simulator":
        """Listen, in threads of its own."""
        self._server = HttpServer((self.host, self.port), self)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        # stop() waits for the next poll; the default of half a second would slow down every test.
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Close every connection and stop listening; the log of requests remains."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> "Simulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address, ``http://HOST:PORT``; with TLS, ``https``."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The data plane: POST base_url/codex/responses and so on."""
        return f"{self.url}/backend-api"

    @property
    def auth_url(self) -> str:
        """The token endpoint."""
        return f"{self.url}/oauth/token"


def serve(host: str, port: int, auth_file: Path | None) -> None:
    """Run in the foreground until SIGINT or SIGTERM, with one account.

    Prints what a shell has to run for Floway to use it, and writes the account's auth.json to ``auth_file``.

    :raises OSError: the address cannot be used, or the file cannot be written.
    """
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Simulator(host, port) as simulator:
            auth = simulator.new_account()
            lines = [
                f"export FLOWAY_CODEX_BASE_URL={simulator.base_url}",
                f"export FLOWAY_CODEX_AUTH_URL={simulator.auth_url}",
            ]
            if auth_file is not None:
                write_private(auth_file, json.dumps(auth, indent=2) + "\n")
                lines.append(f"floway codex import {shlex.quote(str(auth_file.absolute()))}")
            note = "A simulated Codex backend is running; Ctrl-C stops it. To use it, run this in another terminal:"
            click.echo(note, err=True)
            click.echo("\n".join(lines))
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, even if it existed with other permissions."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
