"""Items of a cached history that are sent without parsing would not change if they were parsed."""

import random

from floway_core.conversation.cache import PackedHistory
from floway_core.conversation.records import History
from floway_core.engine.input_items import fit_for_upstream
from floway_core.protocol import jsontext
from floway_core.protocol.input_items import ready_ids

HERE, ELSEWHERE = "up_here", "up_elsewhere"


class Conversation:
    """Makes random items. Every second conversation is careless: ids are repeated or long, and fields are null."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.is_careless = seed % 2 == 1
        self.number = 0

    def odd(self, usual, *others):
        return self.random.choice(others) if self.is_careless and self.random.random() < 0.05 else usual

    def item(self, issuer) -> dict:
        self.number += 1
        number = self.number
        kind = self.random.choice(["message", "reasoning", "function_call", "function_call_output", "local_shell_call"])
        item = {"type": kind, "id": self.odd(f"{kind}_{number}", "x" * 70, "message_1", 7)}
        if issuer is None and self.random.random() < 0.5:
            del item["id"]
        if kind == "message":
            item |= {"role": "user", "content": [{"type": "input_text", "text": "Hi", **self.odd({}, {"a": None})}]}
        elif kind == "reasoning":
            item |= {"summary": [], "content": None, "encrypted_content": self.odd("sealed", None)}
        elif kind == "local_shell_call":
            item |= {"action": {"command": ["ls"], **self.odd({}, {"timeout_ms": None})}}
        else:
            item |= {"call_id": self.odd(f"call_{number}", "c" * 70, None), "status": self.odd("completed", None)}
        return item

    def history(self) -> History:
        """Return a history as the cache gives it."""
        packed = None
        for turn in range(self.random.randrange(1, 8)):
            upstream = self.odd(HERE, ELSEWHERE)
            issuers = [None] * self.random.randrange(3) + [upstream] * self.random.randrange(3)
            items = [self.item(issuer) for issuer in issuers]
            types = [item["type"] for item in items]
            texts = map(jsontext.dumps, items)
            packed = PackedHistory(f"resp_{turn}", texts, issuers, types, packed, ready_ids(items))
        return packed.unpack()


def test_unread_items_are_those_that_need_no_change():
    unread = 0
    for seed in range(2000):
        conversation = Conversation(seed)
        added = History([conversation.item(None) for _ in range(2)], [None, None])
        history = conversation.history() + added
        texts, items = fit_for_upstream(history, HERE)
        one_by_one = fit_for_upstream(History(list(history.items), history.issuers), HERE)
        assert one_by_one == ([], [*jsontext.loads_many(texts), *items])
        assert texts or conversation.is_careless or len(history.items) == 2
        unread += bool(texts)
    assert 1000 < unread < 1900


def test_items_that_an_upstream_holds_are_left_out():
    history = Conversation(0).history()
    texts, items = fit_for_upstream(history.after(1), HERE)
    assert [*jsontext.loads_many(texts), *items] == list(history.items)[1:]


def test_a_null_that_upstreams_accept_stays():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "sealed"}
    (fitted,) = fit_for_upstream(History([reasoning], [HERE]), HERE)[1]
    assert fitted is reasoning
    (fitted,) = fit_for_upstream(History([{**reasoning, "status": None}], [HERE]), HERE)[1]
    assert fitted == reasoning
