"""The part of the dialect contract about errors: each has the form of the dialect, wherever it comes from."""

import json
import signal
from pathlib import Path

import pytest

from floway_core.testing import events
from floway_core.testing.client import ApiClient
from floway_core.testing.dialect_contract_base import MAX_BODY_BYTES, MODEL, DialectContractBase
from floway_core.testing.dialect_kit import FOREIGN_ERROR, odd_bodies, sampled
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.gateway_fixtures import JSON
from floway_core.testing.upstream import FakeUpstream, Reply, Step


class DialectErrorContract(DialectContractBase):
    """Errors of clients, of upstreams, of limits and of the gateway."""

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
        upstream.script(Reply(events.message_stream("Good day.")))
        assert caller.post(body, path).status == 200, "full_request is not served"
        for odd in sampled([odd for odd in odd_bodies(body) if isinstance(odd, dict)]):
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
        with self._start(tmp_path, upstream, threads="1", graceful_timeout="0.2") as gateway:
            caller = ApiClient(gateway.url, gateway.key)
            running = self._ask(caller, stream=True)
            upstream.wait_for_request()
            self._refused(self._ask(caller), 503)
            gateway.process.send_signal(signal.SIGTERM)
            body = running.body
            assert self.is_failed(body) and not self.is_complete(body)
