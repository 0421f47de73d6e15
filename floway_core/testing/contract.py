"""The tests that every provider has to pass: subclass ``ProviderContract``, add an upstream, and run pytest.

::

    from floway_core.testing.contract import ProviderContract

    class TestContract(ProviderContract):
        plugin = "parrot"
        model = "parrot-1"
        secrets = ("sk-contract",)

        def add_upstream(self, installation, upstream):
            result = installation.run("parrot", "add", "one", upstream.url, typed="sk-contract")
            assert result.returncode == 0, result.stderr

The plugin has to be installed, for example with ``pip install -e .``. Class attributes state what does not apply to a
provider; pytest reports the tests concerned as skipped.
"""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from floway_core.testing import events
from floway_core.testing.answer_contract import AnswerContract
from floway_core.testing.body_contract import BodyContract
from floway_core.testing.client import TIMEOUT_SECONDS, ApiClient
from floway_core.testing.contract_base import read_response
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.gateway_fixtures import JSON
from floway_core.testing.in_process import (
    OpenedGateway,
    failing_commits,
    migrated_twice,
    row_counts,
    sealed_texts,
    texts_in,
)
from floway_core.testing.installation import Installation
from floway_core.testing.operator_contract import OperatorContract
from floway_core.testing.upstream import FakeUpstream, Reply, Step

ERROR_BODY = b'{ "error": {"message":"No.","type":"odd","code":"why","param":null,"more":[1]} }'
UNKNOWN_ITEM = {"type": "unknown_thing", "id": "unknown_1", "payload": {"deep": [1, None, "ü"]}}
FULL_REQUEST: dict[str, Any] = {
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello", "extra": None}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "sealed"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Sky"}]},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "patch", "input": "*** x"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
        UNKNOWN_ITEM,
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ],
    "instructions": "You look at things.",
    "tools": [
        {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"at": {}}}},
        {"type": "custom", "name": "patch", "format": {"type": "text"}},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "function", "name": "look"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "seen", "schema": {"type": "object"}}, "verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"team": "a"},
    "store": False,
}
"""A request with an example of most of what a request may contain."""
COMPACTION = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}


class ProviderContract(AnswerContract, BodyContract, OperatorContract):
    """Override the attributes and methods of ``ContractBase``, above its line."""

    # ------------------------------------------------------------------------------------------------------- answers
    @pytest.mark.parametrize("stream", [False, True])
    def test_answers_and_goes_on(self, upstream: FakeUpstream, caller: ApiClient, stream: bool) -> None:
        """A conversation of two turns: the second dispatch contains the first turn."""
        upstream.script(self.answer([events.message_item("One.")], stream))
        first = read_response(self._ask(caller, "Hello", stream), stream)
        upstream.script(self.answer([events.message_item("Two.")], stream))
        second = read_response(self._ask(caller, "And?", stream, previous_response_id=first["id"]), stream)
        assert first["id"] != second["id"] and first["output"] and second["output"]
        if self.has_upstream:
            assert _texts(first["output"]) == ["One."] and _texts(second["output"]) == ["Two."]
            assert len(self._dispatches(upstream)) == 2
            assert _texts(self.sent_input(self._dispatches(upstream)[1]))[-3:] == ["Hello", "One.", "And?"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_passes_items_of_unknown_types(self, upstream: FakeUpstream, caller: ApiClient, stream: bool) -> None:
        """Items of unknown types pass in both directions, and are part of the history."""
        if not self.passes_unknown_items:
            pytest.skip("passes_unknown_items is False: items are translated")
        input_items = [UNKNOWN_ITEM, {"type": "message", "role": "user", "content": "Hello"}]
        output_item = {**UNKNOWN_ITEM, "id": "unknown_2", "by": "upstream"}
        upstream.script(*[self.answer([output_item], stream)] * 2)
        first = read_response(self._ask(caller, input_items, stream), stream)
        read_response(self._ask(caller, "And?", stream, previous_response_id=first["id"]), stream)
        if self.has_upstream:
            assert first["output"] == [output_item]
            one, two = (_without_ids(self.sent_input(request)) for request in self._dispatches(upstream))
            assert all(_without_ids([UNKNOWN_ITEM])[0] in sent for sent in (one, two))
            assert _without_ids([output_item])[0] in two

    # ------------------------------------------------------------------------------------------------------ refusals
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503])
    def test_relays_a_refusal_as_it_came(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, status: int, stream: bool
    ) -> None:
        """The client gets status, body and ``retry-after``; the upstream gets one request."""
        upstream.script(Reply([ERROR_BODY], status, [JSON, ("retry-after", "7")], "length"))
        refused = self._ask(caller, "Hello", stream)
        assert (refused.status, refused.body, refused.headers["retry-after"]) == (status, ERROR_BODY, "7")
        assert len(self._dispatches(upstream)) == 1

    def test_sends_the_same_again_after_mending(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None
    ) -> None:
        """A dispatch after an error that the provider mends is the same request, except for what had to change."""
        if not self.mended:
            pytest.skip("mended is empty: the provider mends no error")
        upstream.script(*self.mended, self.answer([events.message_item("One.")], True))
        read_response(self._ask(caller, "Hello", True), True)
        dispatches = self._dispatches(upstream)
        requests = [
            (sent.path, sent.body, [pair for pair in sent.headers if pair[0].lower() not in self.differs_when_mended])
            for sent in dispatches
        ]
        assert len(requests) == len(self.mended) + 1 and all(request == requests[0] for request in requests)

    @pytest.mark.parametrize("has_started", [False, True])
    def test_lets_go_of_the_upstream_when_the_client_hangs_up(
        self, upstream: FakeUpstream, caller: ApiClient, needs_upstream: None, has_started: bool
    ) -> None:
        """Before the response has started, and in the middle of it."""
        reply = self.answer([events.message_item("One.")], True)
        held = {"chunks": [reply.chunks[0], Step.HOLD]} if has_started else {"before": [Step.HOLD]}
        upstream.script(dataclasses.replace(reply, **held))
        exchange = self._ask(caller, "Hello", True)
        dispatch = self._wait_for_dispatch(upstream)
        if has_started:
            exchange.read_until(b"response.created")
        exchange.hang_up()
        assert dispatch.peer_gone.wait(TIMEOUT_SECONDS)

    # --------------------------------------------------------------------------------------------------------- hooks
    def test_prepares_the_same_request_every_time(self, opened: OpenedGateway) -> None:
        """A second dispatch of an attempt equals the first, whatever other attempts do meanwhile."""
        one, other = opened.begin(self.model, "One"), opened.begin(self.model, "Other")
        state = one.provider_state
        first = opened.prepare(one, 1)
        opened.prepare(other, 1)
        again = opened.prepare(one, 2)
        assert again.body == first.body and list(again.headers.items()) == list(first.headers.items())
        assert one.provider_state is state

    def test_changes_nothing_in_a_shallow_copy(self, opened: OpenedGateway) -> None:
        """A provider with ``accepts_shallow_copy`` replaces fields of the body, and changes nothing in them."""
        if not opened.provider.accepts_shallow_copy:
            pytest.skip("accepts_shallow_copy is False: the provider gets a deep copy")
        one = opened.begin(self.model, "", **copy.deepcopy(FULL_REQUEST))
        given = copy.deepcopy(one.request.body)
        for dispatch in (1, 2):
            opened.prepare(one, dispatch)
            assert one.request.body == given

    def test_leaves_attempts_of_others_alone(self, gateway: RunningGateway, caller: ApiClient) -> None:
        """A request to another provider's upstream stays unchanged, and nothing of this plugin is stored with it."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
        answer = read_response(caller.create([item], model="other", extra=1), False)
        received = json.loads(_texts(answer["output"])[0])
        assert received == {"state": None, "headers": {}, "body": {"model": "other", "input": [item], "extra": 1}}
        assert texts_in(gateway.database, "responses_snapshots", "metadata_json", answer["id"]) == ["{}"]

    # ---------------------------------------------------------------------------------------------------------- rows
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("output", [[events.message_item("One.")], [COMPACTION]], ids=["append", "replace"])
    def test_a_commit_that_fails_leaves_no_rows(
        self,
        upstream: FakeUpstream,
        gateway: RunningGateway,
        caller: ApiClient,
        output: list[dict[str, Any]],
        stream: bool,
    ) -> None:
        """The client gets an error, and the database does not change."""
        upstream.script(*[self.answer([events.message_item("One.")], stream), self.answer(output, stream)])
        read_response(self._ask(caller, "First", stream), stream)
        before = row_counts(gateway.database)
        with failing_commits(gateway.database):
            failed = self._ask(caller, "Hello", stream)
            assert b"storage_failed" in failed.body and failed.status == (200 if stream else 503)
        assert row_counts(gateway.database) == before

    def test_rows_go_with_their_upstream(self, upstream: FakeUpstream, gateway: RunningGateway) -> None:
        """``floway upstreams remove`` removes all rows that belong to the upstream."""
        with Installation(self.settings(upstream), installed=[self.plugin]) as installation:
            assert installation.run("migrate").returncode == 0
            before = row_counts(installation.database)
            self.add_upstream(installation, upstream)
            assert row_counts(installation.database) != before
            name = json.loads(installation.run("upstreams", "list", "--json").stdout)[0]["name"]
            assert installation.run("upstreams", "remove", name, "--yes").returncode == 0
            assert row_counts(installation.database) == before

    def test_models_are_at_hand_once_they_are_known(self, opened: OpenedGateway) -> None:
        """``cached_models`` and ``fetch_models`` return the same models as ``list_models``."""
        listed, *others = opened.model_lists()
        assert listed and others == [listed] * 3

    def test_migrates_from_nothing_and_back(self, opened: OpenedGateway, tmp_path: Path) -> None:
        """Reverting removes exactly the plugin's tables; migrating again creates the same ones."""
        if not self.has_tables:
            assert opened.migrations is None
            pytest.skip("has_tables is False: the plugin has no migrations")
        assert opened.migrations is not None
        core, first, undone, second = migrated_twice(tmp_path, opened.migrations)
        assert undone == core and second == first

    # ------------------------------------------------------------------------------------------------------- secrets
    def test_no_secret_is_written_down(
        self, upstream: FakeUpstream, gateway: RunningGateway, caller: ApiClient, needs_upstream: None
    ) -> None:
        """Neither in the log at level debug, nor in responses, nor in the data folder."""
        if not self.secrets:
            pytest.skip("secrets is empty: the provider stores none")
        refused = Reply([ERROR_BODY], 403, [JSON], "length")
        resets = [
            Reply(before=[Step.RESET])
        ] * 2  # the first may hit a pooled connection, so that the request is sent again
        upstream.script(self.answer([events.message_item("One.")], True), refused, *resets)
        answers = [self._ask(caller, "Hello", True).body for _ in range(3)]
        sent = "\n".join(f"{request.headers}" for request in upstream.requests)
        assert any(secret in sent for secret in self.secrets), "no request had one of `secrets` in its headers"
        files = [file.read_bytes() for file in gateway.data_dir.rglob("*") if file.is_file()]
        for content in (*answers, *files, gateway.log.encode()):
            assert not [secret for secret in self.secrets if secret.encode() in content]

    def test_what_is_sealed_is_sealed_anew_with_another_key(self, upstream: FakeUpstream) -> None:
        """The migrations name all encrypted columns, so that ``floway secrets rotate`` finds them."""
        if not self.secrets:
            pytest.skip("secrets is empty: the provider stores none")
        with Installation(self.settings(upstream), installed=[self.plugin]) as installation:
            self.add_upstream(installation, upstream)
            before = sealed_texts(installation.database)
            for step in ([], ["--finish"]):
                result = installation.run("secrets", "rotate", *step)
                assert (result.returncode, result.stderr) == (0, "")
            after = sealed_texts(installation.database)
        assert len(after) == len(before) > 1 and not after & before, (
            "MigrationSource.encrypted_columns does not name all columns"
        )


def _texts(items: list[dict[str, Any]]) -> list[str]:
    contents = [item.get("content") or [] for item in items]
    return [text for content in contents for text in ([content] if isinstance(content, str) else _parts(content))]


def _parts(content: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in content if "text" in part]


def _without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]
