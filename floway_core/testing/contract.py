"""What every provider must do, as tests: subclass ``ProviderContract``, say how to set an upstream up, run pytest.

::

    from floway_core.testing.contract import ProviderContract

    class TestContract(ProviderContract):
        plugin = "parrot"
        model = "parrot-1"
        secrets = ("sk-contract",)

        def add_upstream(self, installation, upstream):
            done = installation.run("parrot", "add", "one", upstream.url, typed="sk-contract")
            assert done.returncode == 0, done.stderr

The plugin has to be installed, for example with ``pip install -e .``. What does not apply to a provider is said by a
class attribute, and the tests in question are reported as skipped.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from floway_core.testing import events
from floway_core.testing.client import PATIENCE, ApiClient, ApiResponse
from floway_core.testing.gateway import Installation, RunningGateway
from floway_core.testing.in_process import (
    BYSTANDER,
    OpenedGateway,
    failing_commits,
    migrated_twice,
    row_counts,
    sealed_texts,
    texts_in,
)
from floway_core.testing.plugin import write_plugin
from floway_core.testing.upstream import FakeUpstream, Recorded, Reply, Step

REFUSED = b'{ "error": {"message":"No.","type":"odd","code":"why","param":null,"more":[1]} }'
JSON = ("content-type", "application/json")
OF_TOMORROW = {"type": "thing_of_tomorrow", "id": "tom_1", "payload": {"deep": [1, None, "ü"]}}
COMPACTION = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}


class ProviderContract:
    """Override what stands above the line."""

    plugin: str
    """The name of the entry point."""
    model: str
    """A model of the upstream that ``add_upstream`` makes, as clients ask for it."""
    secrets: Sequence[str] = ()
    """Every secret that ``add_upstream`` stores. None of them may ever be written in plain."""
    has_upstream: bool = True
    """False for a provider that answers by itself."""
    has_tables: bool = True
    """False for a plugin without migrations."""
    passes_unknown_items: bool = True
    """False for an upstream that does not take Responses items, so that what is unknown cannot be translated."""
    mended: Sequence[Reply] = ()
    """Refusals after which the provider dispatches once more by itself; empty if it mends none."""
    differs_when_mended: Sequence[str] = ("authorization",)
    """Headers that may be others in the dispatch after that."""

    def settings(self, upstream: FakeUpstream) -> Mapping[str, str]:
        """Settings of the gateway, without ``FLOWAY_``."""
        return {}

    def add_upstream(self, installation: Installation, upstream: FakeUpstream) -> None:
        """Make one upstream that speaks to ``upstream``, with the plugin's own commands."""
        raise NotImplementedError

    def answer(self, output: list[dict[str, Any]], stream: bool) -> Reply:
        """What the upstream answers when it was asked for a ``stream`` or not, so that clients get ``output``."""
        if stream:
            return Reply(events.items_stream(output))
        return Reply([json.dumps(events.response("completed", output=output)).encode()], headers=[JSON])

    def is_dispatch(self, request: Recorded) -> bool:
        """Whether a request that came to the upstream belongs to an attempt."""
        return request.method == "POST"

    def sent_input(self, request: Recorded) -> list[dict[str, Any]]:
        """The input items in a dispatch."""
        return json.loads(request.body)["input"]

    # ---------------------------------------------------------------------------------------------------------------
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory):
        """The upstream and the gateway of all tests, with another provider beside the one under test."""
        self = cls()
        folder = tmp_path_factory.mktemp("bystander")
        write_plugin(folder, "bystander", BYSTANDER)
        with FakeUpstream() as upstream:
            settings = {**self.settings(upstream), "log_level": "debug"}
            with RunningGateway(settings, installed=[self.plugin], plugin_folders=[folder]) as gateway:
                self.add_upstream(gateway, upstream)
                done = gateway.run("upstreams", "add", "bystander", "bystander")
                assert done.returncode == 0, done.stderr
                yield upstream, gateway

    @pytest.fixture
    def upstream(self, running) -> FakeUpstream:
        """The upstream, with nothing recorded and nothing scripted."""
        running[0].forget()
        return running[0]

    @pytest.fixture
    def gateway(self, running) -> RunningGateway:
        """The gateway."""
        return running[1]

    @pytest.fixture
    def caller(self, gateway: RunningGateway) -> ApiClient:
        """A client of the gateway."""
        return ApiClient(gateway.url, gateway.key)

    @pytest.fixture
    def needs_upstream(self) -> None:
        """For tests that script the upstream."""
        if not self.has_upstream:
            pytest.skip("has_upstream is False: the provider answers by itself")

    @pytest.fixture
    def opened(self, gateway: RunningGateway):
        """The gateway once more, in this process."""
        with OpenedGateway(gateway, self.plugin) as opened:
            yield opened

    def _ask(self, caller: ApiClient, input: Any, stream: bool, **fields: Any) -> ApiResponse:
        return caller.create(input, model=self.model, stream=stream, **fields)

    def _dispatches(self, upstream: FakeUpstream) -> list[Recorded]:
        return [request for request in upstream.requests if self.is_dispatch(request)]

    def _held(self, upstream: FakeUpstream) -> Recorded:
        """The dispatch that is being answered, as soon as it is there."""
        number = 1
        while not self.is_dispatch(upstream.wait_for_request(number)):
            number += 1
        return upstream.requests[number - 1]

    # ------------------------------------------------------------------------------------------------------- answers
    @pytest.mark.parametrize("stream", [False, True])
    def test_answers_and_goes_on(self, upstream, caller, stream):
        """A conversation of two turns; the second one brings the first along."""
        upstream.script(self.answer([events.message_item("One.")], stream))
        first = _response(self._ask(caller, "Hello", stream), stream)
        upstream.script(self.answer([events.message_item("Two.")], stream))
        second = _response(self._ask(caller, "And?", stream, previous_response_id=first["id"]), stream)
        assert first["id"] != second["id"] and first["output"] and second["output"]
        if self.has_upstream:
            assert _texts(first["output"]) == ["One."] and _texts(second["output"]) == ["Two."]
            assert len(self._dispatches(upstream)) == 2
            assert _texts(self.sent_input(self._dispatches(upstream)[1]))[-3:] == ["Hello", "One.", "And?"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_passes_items_of_unknown_types(self, upstream, caller, stream):
        """What neither side of the provider knows goes through both ways, and comes back in the next turn."""
        if not self.passes_unknown_items:
            pytest.skip("passes_unknown_items is False: items are translated")
        given = [OF_TOMORROW, {"type": "message", "role": "user", "content": "Hello"}]
        came = {**OF_TOMORROW, "id": "tom_2", "by": "upstream"}
        upstream.script(*[self.answer([came], stream)] * 2)
        first = _response(self._ask(caller, given, stream), stream)
        _response(self._ask(caller, "And?", stream, previous_response_id=first["id"]), stream)
        if self.has_upstream:
            assert first["output"] == [came]
            one, two = (_without_ids(self.sent_input(request)) for request in self._dispatches(upstream))
            assert all(_without_ids([OF_TOMORROW])[0] in sent for sent in (one, two))
            assert _without_ids([came])[0] in two

    # ------------------------------------------------------------------------------------------------------ refusals
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503])
    def test_relays_a_refusal_as_it_came(self, upstream, caller, needs_upstream, status, stream):
        """Status, body and the headers that tell a client when to come back; asked once."""
        upstream.script(Reply([REFUSED], status, [JSON, ("retry-after", "7")], "length"))
        refused = self._ask(caller, "Hello", stream)
        assert (refused.status, refused.body, refused.headers["retry-after"]) == (status, REFUSED, "7")
        assert len(self._dispatches(upstream)) == 1

    def test_sends_the_same_again_after_mending(self, upstream, caller, needs_upstream):
        """A dispatch after a mended refusal is the same request, but for what had to be mended."""
        if not self.mended:
            pytest.skip("mended is empty: the provider mends no refusal")
        upstream.script(*self.mended, self.answer([events.message_item("One.")], True))
        _response(self._ask(caller, "Hello", True), True)
        dispatches = self._dispatches(upstream)
        told = [
            (sent.path, sent.body, [pair for pair in sent.headers if pair[0].lower() not in self.differs_when_mended])
            for sent in dispatches
        ]
        assert len(told) == len(self.mended) + 1 and all(one == told[0] for one in told)

    @pytest.mark.parametrize("begun", [False, True])
    def test_lets_go_of_the_upstream_when_the_client_hangs_up(self, upstream, caller, needs_upstream, begun):
        """Before the answer has begun, and in the middle of it."""
        reply = self.answer([events.message_item("One.")], True)
        held = {"chunks": [reply.chunks[0], Step.HOLD]} if begun else {"before": [Step.HOLD]}
        upstream.script(dataclasses.replace(reply, **held))
        exchange = self._ask(caller, "Hello", True)
        dispatch = self._held(upstream)
        if begun:
            exchange.read_until(b"response.created")
        exchange.hang_up()
        assert dispatch.peer_gone.wait(PATIENCE)

    # --------------------------------------------------------------------------------------------------------- hooks
    def test_prepares_the_same_request_every_time(self, opened):
        """The second dispatch of an attempt is the first one again, whatever other attempts do meanwhile."""
        one, other = opened.begin(self.model, "One"), opened.begin(self.model, "Other")
        state = one.provider_state
        first = opened.prepare(one, 1)
        opened.prepare(other, 1)
        again = opened.prepare(one, 2)
        assert again.body == first.body and list(again.headers.items()) == list(first.headers.items())
        assert one.provider_state is state

    def test_leaves_attempts_of_others_alone(self, gateway, caller):
        """An attempt on another provider's upstream arrives as the client sent it, and keeps nothing of this plugin."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
        answer = _response(caller.create([item], model="bystander", extra=1), False)
        got = json.loads(_texts(answer["output"])[0])
        assert got == {"state": None, "headers": {}, "body": {"model": "bystander", "input": [item], "extra": 1}}
        assert texts_in(gateway.database, "responses_snapshots", "metadata_json", answer["id"]) == ["{}"]

    # ---------------------------------------------------------------------------------------------------------- rows
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("output", [[events.message_item("One.")], [COMPACTION]], ids=["append", "replace"])
    def test_a_commit_that_fails_leaves_no_rows(self, upstream, gateway, caller, output, stream):
        """The client is told, and the database is as it was."""
        upstream.script(*[self.answer([events.message_item("One.")], stream), self.answer(output, stream)])
        _response(self._ask(caller, "First", stream), stream)
        before = row_counts(gateway.database)
        with failing_commits(gateway.database):
            failed = self._ask(caller, "Hello", stream)
            assert b"storage_failed" in failed.body and failed.status == (200 if stream else 503)
        assert row_counts(gateway.database) == before

    def test_rows_go_with_their_upstream(self, upstream, gateway):
        """``floway upstreams remove`` leaves nothing of it behind."""
        with Installation(self.settings(upstream), installed=[self.plugin]) as installation:
            assert installation.run("migrate").returncode == 0
            before = row_counts(installation.database)
            self.add_upstream(installation, upstream)
            assert row_counts(installation.database) != before
            name = json.loads(installation.run("upstreams", "list", "--json").stdout)[0]["name"]
            assert installation.run("upstreams", "remove", name, "--yes").returncode == 0
            assert row_counts(installation.database) == before

    def test_models_are_at_hand_once_they_are_known(self, opened):
        """``cached_models`` and ``fetch_models`` tell what ``list_models`` tells."""
        listed, *others = opened.model_lists()
        assert listed and others == [listed] * 3

    def test_migrates_from_nothing_and_back(self, opened, tmp_path):
        """Down leaves core's schema alone, and up again gives the same tables."""
        if not self.has_tables:
            assert opened.migrations is None
            pytest.skip("has_tables is False: the plugin has no migrations")
        core, first, undone, second = migrated_twice(tmp_path, opened.migrations)
        assert first != core and undone == core and second == first

    # ------------------------------------------------------------------------------------------------------- secrets
    def test_no_secret_is_written_down(self, upstream, gateway, caller, needs_upstream):
        """Not in the log at its most talkative, not in what clients get, not in the data folder."""
        if not self.secrets:
            pytest.skip("secrets is empty: the provider keeps none")
        refused = Reply([REFUSED], 403, [JSON], "length")
        resets = [Reply(before=[Step.RESET])] * 2  # the first may meet a pooled connection: it is sent again then
        upstream.script(self.answer([events.message_item("One.")], True), refused, *resets)
        answers = [self._ask(caller, "Hello", True).body for _ in range(3)]
        sent = "\n".join(f"{request.headers}" for request in self._dispatches(upstream))
        assert any(secret in sent for secret in self.secrets), "`secrets` are not what the provider sends"
        files = [file.read_bytes() for file in gateway.data_dir.rglob("*") if file.is_file()]
        for written in (*answers, *files, gateway.log.encode()):
            assert not [secret for secret in self.secrets if secret.encode() in written]

    def test_what_is_sealed_is_sealed_anew_with_another_key(self, upstream):
        """The migrations name the columns, so ``floway secrets rotate`` finds them."""
        if not self.secrets:
            pytest.skip("secrets is empty: the provider keeps none")
        with Installation(self.settings(upstream), installed=[self.plugin]) as installation:
            self.add_upstream(installation, upstream)
            before = sealed_texts(installation.database)
            for step in ([], ["--finish"]):
                done = installation.run("secrets", "rotate", *step)
                assert (done.returncode, done.stderr) == (0, "")
            after = sealed_texts(installation.database)
        assert len(after) == len(before) > 1 and not after & before, (
            "MigrationSource.encrypted_columns does not name all columns"
        )


def _response(exchange: ApiResponse, stream: bool) -> dict[str, Any]:
    """The response of an answer that went well, in the form that was asked for."""
    assert exchange.status == 200, exchange.body
    if not stream:
        assert exchange.headers.get_content_type() == "application/json"
        return exchange.json()
    assert exchange.headers.get_content_type() == "text/event-stream"
    told = exchange.events()
    assert told[0]["type"] == "response.created" and told[-1]["type"] == "response.completed", told
    return told[-1]["response"]


def _texts(items: list[dict[str, Any]]) -> list[str]:
    contents = [item.get("content") or [] for item in items]
    return [text for content in contents for text in ([content] if isinstance(content, str) else _parts(content))]


def _parts(content: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in content if "text" in part]


def _without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]
