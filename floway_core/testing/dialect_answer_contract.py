"""The part of the dialect contract about answers: they are complete or visibly not, whole and streamed."""

import json

import pytest

from floway_core.testing import events
from floway_core.testing.client import TIMEOUT_SECONDS, ApiClient
from floway_core.testing.dialect_contract_base import MODEL, DialectContractBase
from floway_core.testing.dialect_kit import OTHER_ITEMS, UNKNOWN_EVENT, count_stored
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.in_process import failing_commits
from floway_core.testing.upstream import FakeUpstream, Reply, Step


class DialectAnswerContract(DialectContractBase):
    """Text and events on their way to the client, and what happens when they end early."""

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
