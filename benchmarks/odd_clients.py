"""Clients that do more than ask and listen: they hang up, read back, delete, and send what is refused."""

import http.client
import itertools
import json
import threading
from typing import Any
from urllib.parse import urlsplit

from benchmarks.scenarios import body_of
from benchmarks.targets import Target
from benchmarks.wire import Order

PAUSE_SECONDS = 0.1
"""Time between two requests."""

TIMEOUT_SECONDS = 60.0


class OddClients:
    """Run them in a thread."""

    def __init__(self, target: Target) -> None:
        self._headers = {"content-type": "application/json", **target.headers}
        parts = urlsplit(target.url)
        self._address, self._path = (parts.hostname, parts.port), parts.path
        self.requests = 0
        self.problems: list[str] = []
        """What was answered in another way than it should be."""

    def run(self, over: threading.Event) -> None:
        """Take turns until ``over`` is set."""
        for act in itertools.cycle((self._abort, self._read_and_delete, self._abort_early, self._be_refused)):
            if over.wait(PAUSE_SECONDS):
                return
            try:
                act()
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.problems.append(f"{act.__name__}: {error!r}")

    def _abort(self) -> None:
        """Hang up in the middle of a stream."""
        connection, response = self._request("POST", self._path, body_of(Order(500, 20_000)))
        response.read(2000)
        response.close()
        connection.close()

    def _abort_early(self) -> None:
        """Hang up before the response, and reset the connection of a half request."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        connection.request("POST", self._path, json.dumps(body_of(Order(500, 20_000))), self._headers)
        connection.close()
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        connection.putrequest("POST", self._path)
        connection.putheader("content-length", "1000")
        connection.endheaders(b'{"model"')
        connection.close()
        self.requests += 2

    def _read_and_delete(self) -> None:
        created = self._answer(200, "POST", self._path, body_of(Order(40), stream=False))
        path = f"{self._path}/{created['id']}"
        self._answer(200, "GET", path)
        self._answer(200, "GET", f"{path}/input_items")
        self._answer(200, "DELETE", path)
        self._answer(404, "GET", path)

    def _be_refused(self) -> None:
        self._answer(400, "POST", self._path, {"model": 1})
        self._answer(404, "POST", self._path, {**body_of(Order(1)), "model": "no-such-model"})
        self._answer(404, "GET", "/no-such-path")
        self._answer(200, "GET", "/readyz")
        self._answer(200, "GET", "/v1/models")

    def _answer(self, status: int, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection, response = self._request(method, path, body)
        content = response.read()
        connection.close()
        if response.status != status:
            self.problems.append(f"{method} {path.replace(self._path, '/')[:30]}: {response.status}, not {status}")
        answer: dict[str, Any] = json.loads(content)
        return answer

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        self.requests += 1
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        return connection, connection.getresponse()
