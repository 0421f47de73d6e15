"""Random trees of turns, forks, compactions, failures and deletions, compared with a plain model in memory."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from floway_core.conversation import retention
from floway_core.protocol.items import usual_form
from floway_core.storage.db import select

from .direct_store import Store, assistant, user

TRIGGER = {"type": "compaction_trigger"}
FULL = {"derandomize": True, "database": None, "deadline": None, "phases": (Phase.generate, Phase.shrink)}
CHECKS = {"suppress_health_check": list(HealthCheck)}

# Few texts, so that histories often begin alike.
TEXTS = st.sampled_from("abc")
GIVEN = st.lists(TEXTS, max_size=3)
OUTPUT = st.lists(TEXTS, max_size=2)
PICK = st.integers(0, 10**6)


class Failure(Exception):
    """What makes a commit fail."""


def fail():
    raise Failure


def usual(history):
    return [usual_form(item) for item in history]


class Model:
    """What is to be found, and what is not."""

    def __init__(self):
        self.histories = {}
        self.deleted = set()
        self.never = set()

    @property
    def alive(self):
        return [response_id for response_id in self.histories if response_id not in self.deleted]

    def pick(self, number):
        return self.alive[number % len(self.alive)]


class Trees(RuleBasedStateMachine):
    """One API key and its model. The database, and the bytes of histories kept in memory, are set by who runs it."""

    database = memory = None

    @initialize()
    def start(self):
        self.store, self.model = Store(self.database, memory=self.memory), Model()

    @rule(texts=GIVEN, output=OUTPUT)
    def begins(self, texts, output):
        self._turn([user(text) for text in texts], None, [assistant(text) for text in output])

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, texts=GIVEN, output=OUTPUT)
    def continues(self, number, texts, output):
        self._turn([user(text) for text in texts], self.model.pick(number), [assistant(text) for text in output])

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, texts=GIVEN, output=OUTPUT, bare=st.booleans())
    def sends_again(self, number, texts, output, bare):
        history = self.model.histories[self.model.pick(number)]
        if bare:
            history = [{name: value for name, value in item.items() if name != "id"} for item in history]
        self._turn([*history, *map(user, texts)], None, [assistant(text) for text in output])

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, cut=PICK, output=OUTPUT)
    def sends_a_part_again(self, number, cut, output):
        history = self.model.histories[self.model.pick(number)]
        self._turn(history[: cut % (len(history) + 1)], None, [assistant(text) for text in output])

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, texts=GIVEN, seal=TEXTS)
    def compacts(self, number, texts, seal):
        blob = {"type": "compaction", "id": f"cmp_{seal}", "encrypted_content": seal}
        turn = self.store.begin([*map(user, texts), TRIGGER], self.model.pick(number))
        self.model.histories[self.store.commit(turn, blob)] = [blob]

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, texts=GIVEN, explicit_previous=st.booleans())
    def fails(self, number, texts, explicit_previous):
        previous = self.model.pick(number)
        given = [user(text) for text in texts]
        if not explicit_previous:
            given = [*self.model.histories[previous], *given]
        turn = self.store.begin(given, previous if explicit_previous else None)
        before = self.store.rows()
        with pytest.raises(Failure):
            self.store.commit(turn, assistant("x"), hook=fail)
        assert self.store.rows() == before
        self.model.never.add(turn.response_id)

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK)
    def deletes(self, number):
        response_id = self.model.pick(number)
        retention.delete_response(self.store.database, self.store.snapshot(response_id))
        self.model.deleted.add(response_id)

    def teardown(self):
        for response_id in self.model.alive:
            assert usual(self.store.history(response_id)) == usual(self.model.histories[response_id])
        for response_id in self.model.deleted | self.model.never:
            assert self.store.snapshot(response_id) is None
        siblings = select(
            self.store.database,
            "SELECT parent_id, ordinal FROM responses_snapshots WHERE api_key_id = ? AND parent_id IS NOT NULL",
            self.store.key_id,
        )
        assert len(set(siblings)) == len(siblings)
        for response_id in self.model.alive:
            retention.delete_response(self.store.database, self.store.snapshot(response_id))
        assert self.store.rows() == [0, 0, 0]

    def _turn(self, given, previous, output):
        turn = self.store.begin(given, previous)
        before = self.model.histories[previous] if previous else []
        assert usual(turn.input.items) == usual([*before, *given])
        self.model.histories[self.store.commit(turn, *output)] = [*before, *given, *output]


@pytest.mark.parametrize("memory", [0, 1500, 10**6])
@pytest.mark.parametrize("examples", [10, pytest.param(40, marks=pytest.mark.soak)])
def test_random_trees(database, memory, examples):
    machine = type("OnDatabase", (Trees,), {"database": database, "memory": memory})
    run(machine, settings=settings(max_examples=examples, stateful_step_count=25, **FULL, **CHECKS))


class TreesOverHttp(RuleBasedStateMachine):
    """The same through the gateway, with less variety."""

    new_client = None

    @initialize()
    def start(self):
        self.client, self.stranger, self.model = self.new_client(), self.new_client(), Model()
        self.outputs = {}

    @rule(number=PICK, text=TEXTS, stream=st.booleans(), again=st.booleans())
    def turn(self, number, text, stream, again):
        previous = self.model.pick(number) if self.model.alive and number % 5 else None
        before = self.model.histories[previous] if previous else []
        given = [*before, user(text)] if again else [user(text)]
        told = self.client.turn(given, None if again else previous, stream=stream)
        assert told.sent == [[*before, user(text)]]
        self.model.histories[told.id] = [*before, user(text), *told.output]
        self.outputs[told.id] = told.output

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK)
    def read(self, number):
        response_id = self.model.pick(number)
        output = self.outputs.get(response_id, self.model.histories[response_id])
        assert self.client.caller.get(f"/v1/responses/{response_id}").json()["output"] == output
        seen = self.client.caller.get(f"/v1/responses/{response_id}/input_items?order=asc&limit=100").json()
        if response_id in self.outputs and not seen["has_more"]:
            assert usual([*seen["data"], *output]) == usual(self.model.histories[response_id])

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, stream=st.booleans())
    def compact(self, number, stream):
        blob = {"type": "compaction", "id": f"cmp_{number}", "encrypted_content": str(number)}
        told = self.client.turn([TRIGGER], self.model.pick(number), stream=stream, output=[blob])
        self.model.histories[told.id] = [blob]

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK, stream=st.booleans(), how=st.sampled_from(["cut", "failed", "commit"]))
    def fail(self, number, stream, how):
        headers = {"x-test-commit": "fault"} if how == "commit" else {"x-test-answer": how}
        before = self.client.rows()
        failed = self.client.ask("x", previous_response_id=self.model.pick(number), stream=stream, headers=headers)
        assert failed.status >= 500 or failed.response["status"] == "failed"
        assert self.client.rows() == before
        if stream:
            self.model.never.add(failed.id)

    @precondition(lambda self: self.model.alive)
    @rule(number=PICK)
    def delete(self, number):
        response_id = self.model.pick(number)
        assert self.client.caller.send("DELETE", f"/v1/responses/{response_id}").status == 200
        self.model.deleted.add(response_id)

    def teardown(self):
        for response_id in self.model.alive:
            told = self.client.turn("last", response_id, store=False)
            assert told.sent == [[*self.model.histories[response_id], user("last")]]
        for response_id in self.model.deleted | self.model.never:
            refused = self.client.ask("last", previous_response_id=response_id)
            assert refused.error["code"] == "previous_response_not_found"
            assert self.client.caller.get(f"/v1/responses/{response_id}").status == 404
        for response_id in self.model.histories:
            refused = self.stranger.ask("last", previous_response_id=response_id)
            assert refused.error["code"] == "previous_response_not_found"
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
                assert self.stranger.caller.send(method, f"/v1/responses/{response_id}{path}").status == 404
        assert self.stranger.rows() == [0, 0, 0]


@pytest.mark.parametrize("examples", [5, pytest.param(20, marks=pytest.mark.soak)])
def test_random_trees_over_http(client_of, acting, examples):
    machine = type("OnGateway", (TreesOverHttp,), {"new_client": lambda self: client_of(acting)})
    run(machine, settings=settings(max_examples=examples, stateful_step_count=12, **FULL, **CHECKS))
