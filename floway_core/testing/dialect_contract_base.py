"""What the tests of the dialect contract share: what a plugin states about its dialect, and a running gateway."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from floway_core.testing.client import ApiClient, ApiResponse
from floway_core.testing.dialect_kit import KIT_PROVIDER, MODELS, exchange_raw
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.gateway_fixtures import GatewayFixtures
from floway_core.testing.plugin import write_plugin
from floway_core.testing.upstream import FakeUpstream

MAX_BODY_BYTES = 100_000
MODEL = MODELS[0]


class DialectContractBase(GatewayFixtures):
    """Override the attributes and methods above the line."""

    plugin: str | None
    """Name of the entry point; None for the dialect of core."""
    plugin_source: str | None = None
    """Source of the plugin, if it is not installed."""
    key_headers: Sequence[str] = ()
    """As ``Dialect.key_headers``."""
    key_parameters: Sequence[str] = ()
    """As ``Dialect.key_parameters``."""
    request_id_header: str = "x-request-id"
    """The header in which its clients look for the id of a request."""
    keepalive: bytes
    """What is sent while the upstream is silent. For a dialect with a framing (``Dialect.framing``), run the contract
    once more, with a subclass whose clients want that framing."""
    stream_type: str = "text/event-stream"
    """The media type of a stream."""
    model_headers: Mapping[str, str] = {}
    """Headers that mark a request for models as one of this dialect."""
    models_path: str | None = None
    """Path of the list of models; None if the dialect has none."""
    count_path: str | None = None
    """Path of the request to count tokens; None if the dialect has none."""
    unknown_path: str
    """A path that does not exist, whose error has the form of the dialect."""

    def request(self, model: str | None, text: str, stream: bool) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request: a message of a user with ``text``.

        :param model: None leaves the model out, or something else that is required.
        """
        raise NotImplementedError

    def full_request(self) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request with as many fields as possible, such as tools, calls and their outputs."""
        return self.request(MODEL, "Hi", stream=False)

    def count_request(self, model: str, text: str) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request to count the tokens of ``request``. By default it has the same body."""
        assert self.count_path
        return self.count_path, self.request(model, text, False)[1]

    def text(self, answer: Any) -> str:
        """Return the text in an answer that was not streamed."""
        raise NotImplementedError

    def streamed_text(self, body: bytes) -> str:
        """Return the text in a streamed answer, whole or not."""
        raise NotImplementedError

    def is_complete(self, body: bytes) -> bool:
        """Return whether a client takes a streamed answer for complete."""
        raise NotImplementedError

    def is_failed(self, body: bytes) -> bool:
        """Return whether a client sees that a streamed answer has failed."""
        raise NotImplementedError

    def check_error(self, status: int, answer: Any) -> str:
        """Check the form of an error body, and return its message.

        :param status: the status that core gave the error.
        """
        raise NotImplementedError

    def status(self, status: int) -> int:
        """Return the HTTP status with which the dialect sends an error that core gave ``status``."""
        return status

    def model_names(self, answer: Any) -> list[str]:
        """Return the names in a list of models."""
        raise NotImplementedError

    def token_count(self, answer: Any) -> int:
        """Return the number in a count of tokens."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------------------
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeUpstream, RunningGateway]]:
        """The upstream and the gateway of all tests."""
        with FakeUpstream() as upstream, cls._start(tmp_path_factory.mktemp("kit"), upstream) as gateway:
            yield upstream, gateway

    @classmethod
    @contextlib.contextmanager
    def _start(cls, folder: Path, upstream: FakeUpstream, **settings: str) -> Iterator[RunningGateway]:
        """Run a gateway with the dialect and a provider that sends to ``upstream``."""
        write_plugin(folder, "kit", KIT_PROVIDER)
        if cls.plugin and cls.plugin_source:
            write_plugin(folder, cls.plugin, cls.plugin_source)
        installed = [cls.plugin] if cls.plugin and not cls.plugin_source else []
        own = {"kit_url": upstream.url, "log_level": "debug", "keepalive_interval": "0.3"}
        settings = {**own, "max_body_bytes": str(MAX_BODY_BYTES), **settings}
        with RunningGateway(settings, installed=installed, plugin_folders=[folder]) as gateway:
            assert gateway.run("upstreams", "add", "kit", "kit").returncode == 0
            yield gateway

    def _ask(
        self, caller: ApiClient, text: str = "Hi", stream: bool = False, model: str | None = MODEL, **headers: str
    ) -> ApiResponse:
        path, body = self.request(model, text, stream)
        return caller.post(body, path, **headers)

    def _refused(self, answer: ApiResponse, status: int) -> str:
        """Check an error answer, and return its message."""
        body = answer.body
        assert answer.status == self.status(status), body
        assert answer.headers["x-request-id"] and answer.headers[self.request_id_header]
        message = self.check_error(status, json.loads(body))
        assert message and isinstance(message, str)
        return message

    def _raw_error(self, gateway: RunningGateway, request: bytes, status: int) -> str:
        received = exchange_raw(gateway.url, request)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.split()[1] == str(self.status(status)).encode(), received
        assert f"{self.request_id_header}: ".encode() in head.lower()
        return self.check_error(status, json.loads(body))
