"""The part of the provider contract about answers: nothing of them is lost, and none counts for more than it is."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from floway_core.testing import events
from floway_core.testing.client import ApiClient, ApiResponse
from floway_core.testing.contract_base import ContractBase, read_response
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.in_process import row_counts
from floway_core.testing.upstream import FakeUpstream, Step

TOOL_NAME = "weather"
TOOL = {
    "type": "function",
    "name": TOOL_NAME,
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
CITIES = {"call_contract_1": "Reykjavík", "call_contract_2": "Ulan-Ude"}
"""The argument of each call, by the id of the call."""


class AnswerContract(ContractBase):
    """Usage, tool calls, answers that end early, and the cost of knowing the models."""

    def _ask_with_tool(self, caller: ApiClient, input: Any, stream: bool, **fields: Any) -> ApiResponse:
        return self._ask(caller, input, stream, tools=[TOOL], **fields)

    @pytest.mark.parametrize("stream", [False, True])
    def test_reports_the_usage(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, stream: bool
    ) -> None:
        """The client gets the token counts that the upstream states."""
        if not self.reports_usage:
            pytest.skip("reports_usage is False: the upstream counts no tokens")
        upstream.script(self.answer([events.message_item("One.")], stream))
        usage = read_response(self._ask(caller, "Hello", stream), stream)["usage"]
        assert usage, "The response has no usage."
        names = ("input_tokens", "output_tokens", "total_tokens")
        assert [usage[name] for name in names] == [events.USAGE[name] for name in names]

    # ----------------------------------------------------------------------------------------------------- tool calls
    @pytest.mark.parametrize("stream", [False, True])
    def test_keeps_the_ids_of_tool_calls(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, stream: bool
    ) -> None:
        """The upstream gets back the id under which it has called a tool, with the call and with its result."""
        self._sends_tool_calls()
        (call, *_) = _calls()
        upstream.script(self.answer([call], stream), self.answer([events.message_item("Sunny.")], stream))
        first = read_response(self._ask_with_tool(caller, "Hello", stream), stream)
        (received,) = _function_calls(first["output"])
        assert received["call_id"] == call["call_id"], "The client got another call_id."
        result = {"type": "function_call_output", "call_id": received["call_id"], "output": "sunny"}
        read_response(self._ask_with_tool(caller, [result], stream, previous_response_id=first["id"]), stream)
        sent = self.sent_input(self._dispatches(upstream)[1])
        ids = [item.get("call_id") for item in sent if item["type"] in ("function_call", "function_call_output")]
        assert ids == [call["call_id"]] * 2, "The upstream got back another call_id."

    @pytest.mark.parametrize("stream", [False, True])
    def test_keeps_parallel_tool_calls_apart(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, stream: bool
    ) -> None:
        """Each of several calls has its own arguments, even if they arrive by turns."""
        self._sends_tool_calls()
        upstream.script(self.answer_with_calls(_calls(), stream))
        exchange = self._ask_with_tool(caller, "Hello", stream)
        received = _function_calls(read_response(exchange, stream)["output"])
        assert {call["call_id"]: json.loads(call["arguments"]).get("city") for call in received} == CITIES
        if stream:
            streamed = _streamed_arguments(exchange.events())
            assert {call["id"]: json.loads(call["arguments"]) for call in received} == streamed

    # ------------------------------------------------------------------------------------------------------- the ends
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("cut", [False, True], ids=["ended", "cut"])
    def test_an_answer_that_breaks_off_is_not_complete(
        self,
        upstream: FakeUpstream,
        gateway: RunningGateway,
        caller: ApiClient,
        needs_upstream: None,
        cut: bool,
        stream: bool,
    ) -> None:
        """If the end of the upstream's answer is missing, the client gets a failure, and nothing is stored."""
        reply = self.unfinished_answer()
        if cut:
            reply = dataclasses.replace(reply, chunks=[*reply.chunks, Step.CUT])
        upstream.script(reply)
        before = row_counts(gateway.database)
        exchange = self._ask(caller, "Hello", stream)
        if exchange.status == 200:
            assert stream, "The client got a complete response."
            assert exchange.events()[-1]["type"] == "response.failed", "The stream does not end with a failure."
        else:
            assert exchange.status >= 500
        assert row_counts(gateway.database) == before

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_answer_at_the_limit_of_tokens_is_incomplete(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, stream: bool
    ) -> None:
        """The client learns that the model has reached its limit."""
        reply = self.answer_at_limit([events.message_item("One two")], stream)
        if reply is None:
            pytest.skip("answer_at_limit returns None: the upstream has no limit of tokens")
        upstream.script(reply)
        response = read_response(self._ask(caller, "Hello", stream), stream, "incomplete")
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}

    # --------------------------------------------------------------------------------------------------------- models
    def test_does_not_ask_for_the_models_with_every_request(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None
    ) -> None:
        """The list of models is cached."""
        upstream.script(*[self.answer([events.message_item("One.")], False)] * 5)
        read_response(self._ask(caller, "Hello", False), False)
        before = self._other_requests(upstream)
        for _ in range(4):
            read_response(self._ask(caller, "Hello", False), False)
        more = self._other_requests(upstream) - before
        assert more <= 1, f"4 requests of a client led to {more} requests for other things than answers."

    def _other_requests(self, upstream: FakeUpstream) -> int:
        return sum(not self.is_dispatch(request) for request in upstream.requests)


def _calls() -> list[dict[str, Any]]:
    return [
        events.function_call_item(TOOL_NAME, json.dumps({"city": city}), id=f"fc_{number}", call_id=call_id)
        for number, (call_id, city) in enumerate(CITIES.items(), start=1)
    ]


def _function_calls(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in items if item["type"] == "function_call"]


def _streamed_arguments(sent: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the arguments that a client adds up from deltas, by the id of the item.

    An item without deltas has them in ``response.function_call_arguments.done`` or when it is done.
    """
    texts: dict[str, str] = {}
    for event in sent:
        if event["type"] == "response.function_call_arguments.delta":
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
    for event in sent:
        item = event.get("item") or {}
        if event["type"] == "response.output_item.done" and item["type"] == "function_call":
            texts.setdefault(item["id"], item["arguments"])
    return {item_id: json.loads(text) for item_id, text in texts.items()}
