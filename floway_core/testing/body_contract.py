"""The part of the provider contract about ``ResponseBody``: reading never waits longer than it may."""

import dataclasses
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from floway_core.errors import ClientDisconnected
from floway_core.provider import Provider, ResponseBody
from floway_core.testing import events
from floway_core.testing.client import TIMEOUT_SECONDS
from floway_core.testing.contract_base import ContractBase
from floway_core.testing.in_process import OpenedGateway
from floway_core.testing.upstream import FakeUpstream, Step

BLOCKED_SECONDS = 5.0
"""A call that takes longer, although it may not wait, is blocked. Only a failing test waits as long."""

SETTLE_MILLISECONDS = 200
"""How long to watch a descriptor before it counts as not readable."""

MAX_READS = 1000
"""More reads than the bytes of any answer here can need."""


class BodyContract(ContractBase):
    """What the gateway relies on when it relays many streams with one thread."""

    @pytest.fixture
    def body(self, upstream: FakeUpstream, opened: OpenedGateway) -> Iterator[ResponseBody]:
        """The body of an answer; the upstream has sent all but the end of it, and now waits."""
        reply = self.answer([events.message_item("One."), events.message_item("Two.", id="msg_2")], True)
        upstream.script(dataclasses.replace(reply, chunks=[*reply.chunks[:-1], Step.HOLD, reply.chunks[-1]]))
        attempt = opened.begin(self.model, "Hello")
        assert isinstance(attempt.provider, Provider)
        response = attempt.provider.send(opened.prepare(attempt, 1))
        if self.has_upstream:
            assert self._wait_for_dispatch(upstream).held.wait(TIMEOUT_SECONDS)
        yield response.body
        upstream.release.set()
        response.body.close()

    def test_reading_without_a_timeout_takes_what_has_arrived(self, body: ResponseBody) -> None:
        """``read(0)`` does not block, and keeps nothing back of which its descriptor tells nothing."""
        fileno = body.fileno()
        assert _read(body, 0) != b"" or not self.has_upstream, "The body ended before the upstream's answer."
        for _ in range(MAX_READS):
            is_announced = fileno is not None and _is_readable(fileno)
            data = _read(body, 0)
            if data == b"":
                assert not self.has_upstream, "The body ended before the upstream's answer."
                return
            if data is None and not is_announced:
                return
            assert is_announced or fileno is None, (
                "read(0) kept back bytes that had arrived, and the descriptor is not readable."
            )
        pytest.fail("The descriptor stays readable, although there is nothing to read.")

    def test_waiting_for_more_ends_in_time(self, body: ResponseBody, needs_upstream: None) -> None:
        """``read`` ends with its timeout, and with the client."""
        while _read(body, 0.05) is not None:
            pass  # what has arrived
        here, there = socket.socketpair()
        with here:
            client = _Client(here)
            assert _read(body, 0.05, client) is None
            there.close()
            with pytest.raises(ClientDisconnected):
                _read(body, TIMEOUT_SECONDS, client)


class _Client:
    """The connection to a client."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def is_closed(self) -> bool:
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    def shutdown_fileno(self) -> None:
        return None


def _is_readable(fileno: int) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(SETTLE_MILLISECONDS))


def _read(body: ResponseBody, timeout: float, client: _Client | None = None) -> bytes | None:
    """Call ``read``, and fail if it blocks."""
    return _call_in_time(lambda: body.read(timeout, client), f"read({timeout:g}) does not return.")


def _call_in_time(action: Callable[[], bytes | None], complaint: str) -> bytes | None:
    results: list[bytes | None] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(action())
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the test
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(BLOCKED_SECONDS)
    if errors:
        raise errors[0]
    assert results, complaint
    return results[0]
