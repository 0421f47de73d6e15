"""What the tests of the provider contract share: what a plugin states about its provider, and a running gateway."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pytest

from floway_core.testing import events
from floway_core.testing.client import ApiClient, ApiResponse
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.gateway_fixtures import JSON, GatewayFixtures
from floway_core.testing.in_process import OTHER_PROVIDER, OpenedGateway
from floway_core.testing.installation import Installation
from floway_core.testing.plugin import write_plugin
from floway_core.testing.upstream import FakeUpstream, Recorded, Reply


class ContractBase(GatewayFixtures):
    """Override the attributes and methods above the line."""

    plugin: str
    """Name of the entry point."""
    model: str
    """A model of the upstream that ``add_upstream`` adds, as clients name it."""
    secrets: Sequence[str] = ()
    """All secrets that ``add_upstream`` stores, and the tokens that the upstream gives for them. At least one of them
    is sent in headers. None of them may ever be written unencrypted."""
    has_upstream: bool = True
    """False for a provider that creates responses itself."""
    has_tables: bool = True
    """False for a plugin without migrations."""
    passes_unknown_items: bool = True
    """False for an upstream with another API: unknown types of items cannot be translated."""
    calls_tools: bool = True
    """False for an upstream without function calls."""
    reports_usage: bool = True
    """False for an upstream that does not count tokens."""
    always_streams: bool = False
    """True for an upstream that is asked for a stream, whatever the client wants."""
    mended: Sequence[Reply] = ()
    """Error responses after which the provider itself dispatches again; empty if there are none."""
    differs_when_mended: Sequence[str] = ("authorization",)
    """Headers that may differ in that dispatch."""

    def settings(self, upstream: FakeUpstream) -> Mapping[str, str]:
        """Return settings of the gateway by name, without ``FLOWAY_``."""
        return {}

    def add_upstream(self, installation: Installation, upstream: FakeUpstream) -> None:
        """Add one upstream that sends to ``upstream``, with the plugin's own commands."""
        raise NotImplementedError

    def answer(self, output: list[dict[str, Any]], stream: bool) -> Reply:
        """Return the upstream's reply for which clients get ``output``. It states the usage ``events.USAGE``.

        :param stream: whether the client wants a stream.
        """
        return self._responses_reply("completed", output, stream)

    def answer_with_calls(self, calls: list[dict[str, Any]], stream: bool) -> Reply:
        """Return the upstream's reply with several function calls. If it streams, their arguments arrive by turns."""
        if stream or self.always_streams:
            return Reply(events.calls_stream(calls))
        return self.answer(calls, stream)

    def answer_at_limit(self, output: list[dict[str, Any]], stream: bool) -> Reply | None:
        """Return the upstream's reply when the model reached its limit of output tokens; None: there is no limit."""
        reason = {"incomplete_details": {"reason": "max_output_tokens"}}
        return self._responses_reply("incomplete", output, stream, **reason)

    def unfinished_answer(self) -> Reply:
        """Return a stream whose end is missing: what tells that the answer is complete does not arrive."""
        reply = self.answer([events.message_item("One.")], True)
        return dataclasses.replace(reply, chunks=reply.chunks[:-1])

    def is_dispatch(self, request: Recorded) -> bool:
        """Return whether a request to the upstream is a dispatch of an attempt."""
        return request.method == "POST"

    def sent_input(self, request: Recorded) -> list[dict[str, Any]]:
        """Return the input items in a dispatch."""
        items: list[dict[str, Any]] = json.loads(request.body)["input"]
        return items

    # ---------------------------------------------------------------------------------------------------------------
    def _responses_reply(self, status: str, output: list[dict[str, Any]], stream: bool, **fields: Any) -> Reply:
        if stream or self.always_streams:
            return Reply(events.items_stream(output, status=status, **fields))
        response = events.response(status, output=output, usage=events.USAGE, **fields)
        return Reply([json.dumps(response).encode()], headers=[JSON])

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeUpstream, RunningGateway]]:
        """The upstream and the gateway of all tests. The gateway has another provider, too."""
        self = cls()
        folder = tmp_path_factory.mktemp("other")
        write_plugin(folder, "other", OTHER_PROVIDER)
        with FakeUpstream() as upstream:
            settings = {**self.settings(upstream), "log_level": "debug"}
            with RunningGateway(settings, installed=[self.plugin], plugin_folders=[folder]) as gateway:
                self.add_upstream(gateway, upstream)
                result = gateway.run("upstreams", "add", "other", "other")
                assert result.returncode == 0, result.stderr
                yield upstream, gateway

    @pytest.fixture
    def needs_upstream(self) -> None:
        """For tests that script the upstream."""
        if not self.has_upstream:
            pytest.skip("has_upstream is False: the provider creates responses itself")

    @pytest.fixture
    def opened(self, gateway: RunningGateway) -> Iterator[OpenedGateway]:
        """The gateway, opened a second time in this process."""
        with OpenedGateway(gateway, self.plugin) as opened:
            yield opened

    def _ask(self, caller: ApiClient, input: Any, stream: bool, **fields: Any) -> ApiResponse:
        return caller.create(input, model=self.model, stream=stream, **fields)

    def _dispatches(self, upstream: FakeUpstream) -> list[Recorded]:
        return [request for request in upstream.requests if self.is_dispatch(request)]

    def _sends_tool_calls(self) -> None:
        """Skip the test if there are no tool calls."""
        if not self.calls_tools:
            pytest.skip("calls_tools is False: the upstream has no function calls")

    def _wait_for_dispatch(self, upstream: FakeUpstream) -> Recorded:
        """Wait for the first dispatch."""
        number = 1
        while not self.is_dispatch(upstream.wait_for_request(number)):
            number += 1
        return upstream.requests[number - 1]


def read_response(exchange: ApiResponse, stream: bool, status: str = "completed") -> dict[str, Any]:
    """Check that a request succeeded, and return its response object.

    :param status: the status that the response has to have.
    """
    assert exchange.status == 200, exchange.body
    if not stream:
        assert exchange.headers.get_content_type() == "application/json"
        response: dict[str, Any] = exchange.json()
        assert response["status"] == status
        return response
    assert exchange.headers.get_content_type() == "text/event-stream"
    first, *_, last = sent_events = exchange.events()
    assert first["type"] == "response.created" and last["type"] == f"response.{status}", sent_events
    return cast(dict[str, Any], last["response"])
