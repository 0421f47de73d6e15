"""Window numbers, and the counters they come from."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from floway_codex.identity import windows
from floway_codex.identity.windows import derive_context_window_id, parse_window_number

THREAD = "01a201f3-afbc-79d3-9a1e-505a2692afa0"


@pytest.mark.parametrize("window, number", [
    ("t:0", 0), ("t:7", 7), (f"t:{10**15 - 1}", 10**15 - 1), (f"t:{10**15}", None), ("other:0", None), ("t:01", None),
    ("t:-1", None), ("t:", None), ("t", None), ("t:1x", None), ("t:١", None),
])  # fmt: skip
def test_the_number_of_a_window(window, number):
    assert parse_window_number(window, "t") == number


def test_a_context_window_id_is_a_uuid7_as_old_as_the_thread_and_stays_with_the_window():
    first, second = derive_context_window_id(f"{THREAD}:0", THREAD), derive_context_window_id(f"{THREAD}:1", THREAD)
    assert uuid.UUID(first).version == 7 and uuid.UUID(first).variant == uuid.RFC_4122
    assert first[:13] == THREAD[:13] and first != second == derive_context_window_id(f"{THREAD}:1", THREAD)
    derived = str(uuid.uuid4())
    assert uuid.UUID(derive_context_window_id(f"{derived}:0", derived)).version == 4
    for spelling in (THREAD.upper(), THREAD.replace("-", "")):
        assert derive_context_window_id(f"{THREAD}:0", spelling) == first
    assert derive_context_window_id("t:0", "t") is None


def test_new_numbers_follow_the_highest_one_known(database, api_key):
    def claim(above, conversation="resp_1"):
        return windows.claim_window_number(database, api_key, conversation, above)

    assert [claim(0), claim(0), claim(1)] == [1, 2, 3]
    assert claim(9) == 10 and claim(0) == 11
    assert claim(0, "another") == 1


def test_no_two_get_the_same_number(database, api_key):
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: windows.claim_window_number(database, api_key, "resp_1", 0), range(64)))
    assert sorted(claimed) == list(range(1, 65))


def test_a_rolled_back_claim_is_none(database, api_key):
    with database.connection_context(), pytest.raises(ZeroDivisionError), database.atomic():
        assert windows.claim_window_number(database, api_key, "resp_1", 0) == 1
        raise ZeroDivisionError
    assert windows.claim_window_number(database, api_key, "resp_1", 0) == 1


def test_counters_go_with_their_api_key_and_after_a_year_without_use(database, api_key, monkeypatch):
    def count():
        with database.connection_context():
            return database.execute_sql("SELECT count(*) FROM codex_windows").fetchone()[0]

    windows.claim_window_number(database, api_key, "old", 0)
    later = time.time() + windows.COUNTER_LIFETIME_SECONDS + 1
    monkeypatch.setattr(windows.time, "time", lambda: later)
    windows.claim_window_number(database, api_key, "new", 0)
    assert count() == 1
    with database.connection_context():
        database.execute_sql("DELETE FROM api_keys")
    assert count() == 0


@pytest.fixture
def database(services):
    return services.database
