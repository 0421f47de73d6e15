"""Cached histories: read once, correct for every fork, and never used after a deletion or for another key."""

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.conversation import retention
from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.payloads import Decoder
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

from .direct_store import Store, assistant, user

PLENTY = 10**6


@pytest.fixture
def remembering(database):
    """Makes a store that may keep so many bytes of histories in memory."""
    return lambda memory=PLENTY, key_id=None: Store(database, key_id, memory)


@pytest.fixture
def read(queries):
    """How many histories have been read from the tables since it was asked last."""

    def count():
        found = sum("RECURSIVE" in text for text in queries)
        del queries[:]
        return found

    return count


def led(store, turns, text="turn"):
    """The id of the last response of a conversation of so many turns."""
    previous = None
    for number in range(turns):
        previous = store.turn([user(f"{text} {number}")], assistant(f"{text}{number}"), previous=previous)
    return previous


def history_of(turns, text="turn"):
    return [item for number in range(turns) for item in (user(f"{text} {number}"), assistant(f"{text}{number}"))]


def test_a_conversation_is_read_once(remembering, read):
    store = remembering()
    last = led(store, 10)
    assert read() == 1, "when the second turn continues the first"
    assert store.begin([], last).input.items == history_of(10)
    assert read() == 0


def test_without_memory_it_is_read_each_time(remembering, read):
    led(remembering(0), 10)
    assert read() == 9


def test_what_is_kept_says_what_the_tables_say(remembering):
    store = remembering()
    first = store.turn([user("One")], assistant("a"), upstream="up_1")
    blob = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
    second = store.turn([user("Two")], blob, assistant("b"), previous=first, upstream="up_2")
    third = store.turn([{"id": "msg_a"}], assistant("c \ud83d", id="msg_c"), previous=second, upstream=None)
    kept, stored = store.begin([], third).input, remembering(0, store.key_id).begin([], third).input
    assert kept == stored
    assert kept.issuers == [None, "up_1", None, "up_2", "up_2", "up_1", None]


def test_forks(remembering, read):
    store = remembering()
    root = led(store, 3)
    forks = [store.turn([user(f"fork {number}")], assistant(f"f{number}"), previous=root) for number in range(3)]
    for number, fork in enumerate(forks):
        expected = [*history_of(3), user(f"fork {number}"), assistant(f"f{number}")]
        assert store.begin([], fork).input.items == expected
        assert store.begin([], root).input.items == history_of(3)
    read()
    assert [store.begin([], fork).input.items[-1] for fork in forks] == [
        assistant("f0"),
        assistant("f1"),
        assistant("f2"),
    ]
    assert read() == 0


def test_nobody_can_change_what_is_kept(remembering):
    store = remembering()
    last = led(store, 2)
    store.begin([], last).input.items[0]["content"].clear()
    assert store.begin([], last).input.items == history_of(2)


def test_a_failed_commit_leaves_it_as_it_was(remembering):
    def fail():
        raise ValueError

    store = remembering()
    last = led(store, 2)
    turn = store.begin([user("More")], last)
    with pytest.raises(ValueError):
        store.commit(turn, assistant("x"), hook=fail)
    assert store.begin([], last).input.items == history_of(2)
    kept = {history.response_id for history in store.recent.latest(turn.previous.conversation)}
    assert last in kept and turn.response_id not in kept


def test_a_compacted_conversation(remembering, read):
    store = remembering()
    blob = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    compacted = store.turn([{"type": "compaction_trigger"}], blob, previous=led(store, 3))
    read()
    more = store.turn([user("More")], assistant("more"), previous=compacted)
    assert store.begin([], more).input.items == [blob, user("More"), assistant("more")]
    assert read() == 0


def test_deleted_expired_and_foreign_ones_are_refused(remembering, database):
    store = remembering()
    mine, expired = led(store, 3), led(store, 3)
    stranger = Store(database)
    stranger.recent = store.recent
    retention.delete_response(database, store.snapshot(mine))
    store.execute("UPDATE responses_conversations SET used_at = 0 WHERE id = ?", store.snapshot(expired).conversation)
    for asking, response_id in ((store, mine), (store, expired), (stranger, led(store, 2))):
        with pytest.raises(GatewayError) as refused:
            asking.begin([], response_id)
        assert refused.value.code == "previous_response_not_found"


def test_the_memory_is_limited(remembering, read):
    store = remembering(25_000)
    long = [led(store, 5, text * 200) for text in "abcdef"]
    read()
    assert [store.begin([], last).input.items for last in reversed(long)][-1] == history_of(5, "a" * 200)
    assert 0 < read() < 6, "some are still there"
    assert store.recent.size <= 25_000


def test_the_least_recently_used_goes_first(remembering, read):
    store = remembering(30_000)
    used = led(store, 5, "u" * 100)
    for text in "abcdef":
        led(store, 5, text * 100)
        read()
        store.begin([], used)
        assert read() == 0


@pytest.mark.parametrize("size", [30, 100, 500, 5000])
def test_one_that_is_too_long_drives_out_no_other(remembering, read, size):
    store = remembering(20_000)
    short, long = led(store, 3), led(store, 12, "long" * size)
    store.begin([], long)
    read()
    store.begin([], short)
    assert read() == 0


def test_two_workers_share_a_conversation(remembering):
    """Each reads what the other has added since, and keeps what it has read once."""
    one = remembering()
    other = remembering(PLENTY, one.key_id)
    last = led(one, 1)
    for number in range(1, 40):
        last = (one, other)[number % 2].turn([user(f"turn {number}")], assistant(f"turn{number}"), previous=last)
    for worker in (one, other):
        assert worker.begin([], last).input.items == history_of(40)
        assert worker.recent.size < 60_000, "what each has read and written once, not a history for every turn"


def test_only_what_is_new_is_read(remembering, monkeypatch):
    one = remembering()
    last = led(one, 30)
    more = remembering(0, one.key_id).turn([user("more")], assistant("more"), previous=last)
    decoded = []
    text = Decoder.text
    monkeypatch.setattr(Decoder, "text", lambda self, payload, row: decoded.append(row) or text(self, payload, row))
    assert one.begin([], more).input.items == [*history_of(30), user("more"), assistant("more")]
    assert len(decoded) == 2


def test_what_is_put_twice_counts_once(remembering):
    store = remembering()
    last = led(store, 3)
    size = store.recent.size
    for _ in range(3):
        store.recent.put(1, PackedHistory("resp_1", [b"{}"], [None], [None]))
        store.begin([], last)
    assert 0 < store.recent.size - size < 1000


def test_what_goes_on_from_something_dropped_is_not_kept(remembering):
    recent = HistoryCache(10_000)
    first = PackedHistory("resp_1", [b"{}"], [None], [None])
    recent.put(1, first)
    recent.forget(1)
    recent.put(1, PackedHistory("resp_2", [b"{}"], [None], [None], first))
    assert recent.size == 0 and recent.latest(1) == []


def test_many_threads(database):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        store = Store(database, memory=30_000)

        def lead(worker):
            last, text = None, f"worker{worker}" * 20
            for number in range(12):
                last = store.turn([user(f"{text} {number}")], assistant(f"{text}{number}"), previous=last)
                assert store.begin([], last).input.items == history_of(number + 1, text)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lead, range(12)))
    finally:
        sys.setswitchinterval(interval)
    assert store.recent.size <= 30_000


def test_who_sends_everything_again_takes_no_memory(remembering, read):
    store = remembering()
    first = store.turn([user("One")], assistant("a"))
    second = store.turn([user("One"), assistant("a"), user("Two")], assistant("b"))
    assert store.snapshot(second).depth == 1
    read()
    store.begin([], first)
    store.begin([], second)
    assert read() == 2


def test_a_history_takes_the_memory_that_it_counts():
    """Bytes as the serialiser returns them take several times as much."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        histories = [
            PackedHistory(f"resp_{number}", [jsontext.dumps(user("Hi"))], [None], [None]) for number in range(1000)
        ]
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used < 1.5 * sum(history.size for history in histories)
