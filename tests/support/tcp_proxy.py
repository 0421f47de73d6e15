"""A proxy on loopback that can stop to forward anything, as a network does that swallows packets."""

import contextlib
import socket
import threading


class TcpProxy:
    """Forwards connections to a Unix socket until ``swallow`` is called. A context manager."""

    def __init__(self, target):
        """:param target: path of the socket."""
        self._target = target
        self._forwards = threading.Event()
        self._forwards.set()
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        """Forward nothing from now on, also on connections that are open. New ones are accepted."""
        self._forwards.clear()

    def forward(self):
        """Forward again, first what came meanwhile."""
        self._forwards.set()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                threading.Thread(target=self._start, args=(client, server), daemon=True).start()

    def _start(self, client, server):
        self._forwards.wait()
        with contextlib.suppress(OSError):
            server.connect(self._target)
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()
            self._copy(client, server)

    def _copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                self._forwards.wait()
                target.sendall(data)
        self._forwards.wait()
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.forward()
        self._listener.close()
        for end in self._sockets:
            end.close()
