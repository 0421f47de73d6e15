"""The tests that every dialect has to pass: subclass ``DialectContract``, say how its clients ask, and run pytest.

::

    from floway_core.testing.dialect_contract import DialectContract

    class TestContract(DialectContract):
        plugin = "letters"
        key_headers = ("x-stamp",)
        unknown_path = "/v1/letters/nothing"

        def request(self, model, text, stream): ...

The plugin has to be installed, for example with ``pip install -e .``. Class attributes state what a dialect does not
have; pytest reports the tests concerned as skipped.
"""

import contextlib
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from floway_core.testing import events
from floway_core.testing.client import TIMEOUT_SECONDS, ApiClient, ApiResponse
from floway_core.testing.dialect_kit import (
    FOREIGN_ERROR,
    KIT_PROVIDER,
    MODELS,
    OTHER_ITEMS,
    UNKNOWN_EVENT,
    count_stored,
    exchange_raw,
    odd_bodies,
    with_query,
)
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.gateway_fixtures import JSON, GatewayFixtures
from floway_core.testing.in_process import failing_commits
from floway_core.testing.plugin import write_plugin
from floway_core.testing.upstream import FakeUpstream, Reply, Step

MAX_BODY_BYTES = 100_000
MODEL = MODELS[0]


class DialectContract(GatewayFixtures):
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
        own = {"kit_url": upstream.url, "log_level": "debug", "keepalive_interval": "1"}
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

    # ------------------------------------------------------------------------------------------------------- answers
    def test_answers_whole(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """The text reaches the upstream, and its answer the client."""
        upstream.script(Reply(events.message_stream("Good day.")))
        answer = self._ask(caller, "Hello")
        assert answer.status == 200 and answer.headers.get_content_type() == "application/json"
        assert self.text(answer.json()) == "Good day."
        assert answer.headers[self.request_id_header]
        sent = json.loads(upstream.requests[0].body)
        assert sent["model"] == MODEL and "Hello" in json.dumps(sent["input"])

    def test_answers_streamed(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """Piece by piece, as the upstream sends its events."""
        chunks = events.message_stream("Good day.")
        upstream.script(Reply([*chunks[:-1], Step.HOLD, chunks[-1]]))
        answer = self._ask(caller, "Hello", stream=True)
        assert answer.status == 200 and answer.headers.get_content_type() == self.stream_type
        while self.streamed_text(answer.received) != "Good day.":
            answer.read_more()
        assert not self.is_complete(answer.received)
        upstream.release.set()
        assert self.is_complete(answer.body) and not self.is_failed(answer.body)
        assert self.streamed_text(answer.body) == "Good day."

    @pytest.mark.parametrize("stream", [False, True])
    def test_survives_what_it_does_not_know(self, upstream: FakeUpstream, caller: ApiClient, stream: bool) -> None:
        """Events and items of all kinds, in pieces of any size."""
        whole = b"".join(
            [*events.message_stream("Good day.")[:3], UNKNOWN_EVENT, *events.message_stream("Good day.")[3:]]
        )
        items = events.items_stream([*OTHER_ITEMS, events.message_item("Good day.")])
        for chunks in ([whole], [whole[i : i + 7] for i in range(0, len(whole), 7)], items):
            upstream.script(Reply(list(chunks)))
            answer = self._ask(caller, stream=stream)
            assert answer.status == 200, answer.body
            if stream:
                assert self.is_complete(answer.body) and not self.is_failed(answer.body), answer.body
                assert self.streamed_text(answer.body) == "Good day."
            else:
                assert self.text(answer.json()) == "Good day."

    def test_an_answer_that_breaks_off_fails_visibly(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """A client must not take it for complete."""
        for replies in (
            events.message_stream("Good day.")[:-1],
            events.failed_stream("odd_code", "It failed."),
        ):
            upstream.script(Reply(list(replies)))
            body = self._ask(caller, stream=True).body
            assert self.is_failed(body) and not self.is_complete(body), body

    def test_keeps_a_silent_stream_alive(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """In the form of the dialect, and with no other bytes."""
        chunks = events.message_stream("Good day.")
        upstream.script(Reply([*chunks[:-1], Step.HOLD, chunks[-1]]))
        answer = self._ask(caller, stream=True)
        answer.read_until(self.keepalive)
        upstream.release.set()
        assert self.is_complete(answer.body) and self.streamed_text(answer.body) == "Good day."

    @pytest.mark.parametrize("stream", [False, True])
    def test_lets_go_of_the_upstream_when_the_client_hangs_up(
        self, upstream: FakeUpstream, caller: ApiClient, stream: bool
    ) -> None:
        """In the middle of the answer."""
        chunks = events.message_stream("Good day.")
        upstream.script(Reply([chunks[0], Step.HOLD]))
        answer = self._ask(caller, stream=stream)
        request = upstream.wait_for_request()
        if stream:
            assert answer.status == 200
        answer.hang_up()
        assert request.peer_gone.wait(TIMEOUT_SECONDS)

    def test_stores_the_answer_before_the_client_sees_its_end(
        self, upstream: FakeUpstream, gateway: RunningGateway, caller: ApiClient
    ) -> None:
        """When the last bytes arrive, the response is in the database; if it cannot be stored, the stream fails."""
        before = count_stored(gateway.database)
        upstream.script(*[Reply(events.message_stream("Good day."))] * 3)
        answer = self._ask(caller, stream=True)
        while not self.is_complete(answer.received):
            answer.read_more()
        assert count_stored(gateway.database) == before + 1
        with failing_commits(gateway.database):
            body = self._ask(caller, stream=True).body
            assert self.is_failed(body) and not self.is_complete(body)
            self._refused(self._ask(caller), 503)

    # -------------------------------------------------------------------------------------------------------- errors
    def test_a_bad_request_is_refused(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """Before anything is sent to an upstream."""
        path, _ = self.request(MODEL, "Hi", False)
        for body in (b"{", b"[]", b'"text"'):
            self._refused(caller.post(body, path), 400)
        self._refused(self._ask(caller, model=None), 400)
        self._refused(caller.send("POST", path, b"{}", {"content-encoding": "odd"}), 415)
        self._refused(caller.post(b" " * (MAX_BODY_BYTES + 1), path), 413)
        assert upstream.requests == []

    def test_odd_requests_are_no_fault_of_the_gateway(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """Whatever stands in place of a value: the request is served, or the client is told what is wrong with it."""
        path, body = self.full_request()
        for odd in (odd for odd in odd_bodies(body) if isinstance(odd, dict)):
            upstream.forget()
            upstream.script(Reply(events.message_stream("Good day.")))
            answer = caller.post(json.dumps(odd).encode(), path)
            assert answer.status < 500 and answer.body, f"{odd}: {answer.body!r}"

    def test_an_unknown_model_is_refused(self, caller: ApiClient) -> None:
        """Whole and streamed."""
        for stream in (False, True):
            self._refused(self._ask(caller, model="no-such-model", stream=stream), 404)

    def test_unknown_paths_and_methods_are_refused(self, caller: ApiClient) -> None:
        """In the form of the dialect."""
        self._refused(caller.get(self.unknown_path), 404)
        path, _ = self.request(MODEL, "Hi", False)
        self._refused(caller.send("PUT", path), 405)

    def test_what_is_no_http_is_refused(self, gateway: RunningGateway) -> None:
        """Before the application sees it, still in the form of the dialect."""
        path, _ = self.request(MODEL, "Hi", False)
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\n"
        for rest, status in (("content-length: odd\r\n\r\n", 400), (f"x-long: {'x' * 70_000}\r\n\r\n", 431)):
            assert self._raw_error(gateway, (head + rest).encode(), status)

    def _raw_error(self, gateway: RunningGateway, request: bytes, status: int) -> str:
        received = exchange_raw(gateway.url, request)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.split()[1] == str(self.status(status)).encode(), received
        assert f"{self.request_id_header}: ".encode() in head.lower()
        return self.check_error(status, json.loads(body))

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503, 529])
    def test_an_upstreams_error_is_told_in_the_dialect(
        self, upstream: FakeUpstream, caller: ApiClient, status: int, stream: bool
    ) -> None:
        """With its message, and not with the body of another format."""
        upstream.script(Reply([FOREIGN_ERROR], status, [JSON, ("retry-after", "7")], "length"))
        refused = self._ask(caller, stream=stream)
        assert "Not now." in self._refused(refused, status)
        assert refused.body != FOREIGN_ERROR and refused.headers["retry-after"] == "7"

    def test_a_refused_account_is_no_fault_of_the_clients_key(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """A 401 of the upstream concerns the gateway's account."""
        upstream.script(*[Reply([FOREIGN_ERROR], 401, [JSON], "length")] * 4)
        self._refused(self._ask(caller), 503)

    def test_the_limit_of_a_key_is_told(self, upstream: FakeUpstream, gateway: RunningGateway) -> None:
        """The second request in a minute is one too many."""
        upstream.script(Reply(events.message_stream()))
        created = gateway.run("keys", "create", "limited", "--requests-per-minute", "1")
        assert created.returncode == 0, created.stderr
        limited = ApiClient(gateway.url, created.stdout.strip())
        assert self._ask(limited).status == 200
        refused = self._ask(limited)
        self._refused(refused, 429)
        assert int(refused.headers["retry-after"]) > 0
        assert gateway.run("keys", "delete", "limited", "--yes").returncode == 0

    def test_overload_and_the_end_of_the_gateway_are_told(self, upstream: FakeUpstream, tmp_path: Path) -> None:
        """One request too many is refused; a stream that has not ended when the gateway stops fails visibly."""
        upstream.script(Reply([events.message_stream()[0], Step.HOLD]))
        with self._start(tmp_path, upstream, threads="1") as gateway:
            caller = ApiClient(gateway.url, gateway.key)
            running = self._ask(caller, stream=True)
            upstream.wait_for_request()
            self._refused(self._ask(caller), 503)
            gateway.process.send_signal(signal.SIGTERM)
            body = running.body
            assert self.is_failed(body) and not self.is_complete(body)

    # ---------------------------------------------------------------------------------------------------------- keys
    def _key_places(self, key: str) -> Iterator[tuple[Mapping[str, str | None], str]]:
        """Yield headers and query with the key, for each place where clients may send it."""
        yield {"authorization": f"Bearer {key}"}, ""
        for name in self.key_headers:
            yield {"authorization": None, name: key}, ""
        for name in self.key_parameters:
            yield {"authorization": None}, f"{name}={key}"

    def test_the_key_is_read_in_every_place_and_written_down_nowhere(
        self, upstream: FakeUpstream, gateway: RunningGateway, caller: ApiClient
    ) -> None:
        """A wrong one is refused; a right one reaches neither the upstream, nor a plugin, nor the log."""
        path, body = self.request(MODEL, "Hi", False)
        content = json.dumps(body).encode()
        wrong = "sk-floway-wrong-0123456789"
        for headers, query in self._key_places(wrong):
            refused = caller.send("POST", with_query(path, query), content, headers)
            self._refused(refused, 401)
        for headers, query in self._key_places(gateway.key):
            upstream.script(Reply(events.message_stream("Good day.")))
            answer = caller.send("POST", with_query(path, query), content, headers)
            assert answer.status == 200, answer.body
            assert gateway.key not in str(upstream.requests[-1])
        self._refused(caller.send("POST", path, content, {"authorization": None}), 401)
        assert gateway.key not in gateway.log and wrong not in gateway.log
        for file in gateway.data_dir.rglob("*"):
            assert not file.is_file() or gateway.key.encode() not in file.read_bytes()

    def test_a_body_without_a_key_is_not_read(self, gateway: RunningGateway) -> None:
        """The answer comes although the body never does."""
        path, _ = self.request(MODEL, "Hi", False)
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {MAX_BODY_BYTES}\r\n\r\n"
        assert self._raw_error(gateway, head.encode(), 401)

    # ---------------------------------------------------------------------------------------------- models and counts
    def test_lists_the_models(self, caller: ApiClient) -> None:
        """All of them, under the names that clients use; a wrong key is told in the form of the dialect."""
        if self.models_path is None:
            pytest.skip("models_path is None: the dialect lists no models")
        listed = caller.send("GET", self.models_path, headers=self.model_headers)
        assert listed.status == 200 and self.model_names(listed.json()) == list(MODELS)
        wrong = {**self.model_headers, "authorization": "Bearer wrong"}
        self._refused(caller.send("GET", self.models_path, headers=wrong), 401)

    def test_counts_tokens(self, upstream: FakeUpstream, caller: ApiClient) -> None:
        """The upstream's count, or an estimate that grows with the request; nothing is generated."""
        if self.count_path is None:
            pytest.skip("count_path is None: the dialect counts no tokens")
        counts = {}
        for text in ("Hi", "Hi " * 1000, "COUNT"):
            path, body = self.count_request(MODEL, text)
            answer = caller.post(body, path)
            assert answer.status == 200, answer.body
            counts[answer.headers["x-floway-token-count"]] = self.token_count(answer.json())
            if text == "Hi":
                small = self.token_count(answer.json())
        assert 0 < small < counts["estimate"] and counts["upstream"] == 42
        path, body = self.count_request("no-such-model", "Hi")
        self._refused(caller.post(body, path), 404)
        assert upstream.requests == []
