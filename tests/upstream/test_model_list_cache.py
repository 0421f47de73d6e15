"""The model list cache: how long a list is valid, which caller fetches the next one, and what happens without one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import peewee
import pytest

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_core.upstream.model_list_cache import (
    ETAG_GRACE_SECONDS,
    LIFETIME_SECONDS,
    RETRY_WAIT_SECONDS,
    ModelList,
    ModelListCache,
)

UPSTREAM = Upstream("up_1", "other", "one", True, 1)
OTHER = Upstream("up_2", "other", "two", True, 2)
MAX_AGE_SECONDS = 10 * LIFETIME_SECONDS


class Setup:
    """Lists with a clock that is set, and work in the background that is done when the test says so."""

    def __init__(self):
        self.time = 1000.0
        self.asked = []
        self.answers = "abcdef"
        self.fails = False
        self.waiting = []
        self.etag = ""
        self.stored = None
        self.lists = self.cache()

    def cache(self, fetch=None, **options):
        options = {"now": lambda: self.time, "background": self.waiting.append} | options
        return ModelListCache(fetch or self.fetch, **options)

    def sharing_cache(self):
        """The cache of one of several processes that store their lists for each other."""
        return self.cache(load_stored=lambda upstream: self.stored, max_age_seconds=MAX_AGE_SECONDS)

    def fetch(self, upstream):
        self.asked.append(upstream.name)
        if self.fails:
            raise GatewayError(502, f"No list from {upstream.name}.")
        self.stored = ModelList([Model(self.answers[len(self.asked) - 1], "them")], self.time, self.etag)
        return self.stored

    def names(self, upstream=UPSTREAM, lists=None):
        return [model.id for model in (lists or self.lists).wait_for(upstream)]

    def work(self):
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
def setup():
    return Setup()


def test_a_list_serves_for_its_lifetime(setup):
    assert setup.names() == ["a"]
    setup.time += LIFETIME_SECONDS - 1
    assert setup.names() == ["a"] and not setup.waiting


def test_an_old_list_serves_while_one_thread_renews_it(setup):
    assert setup.names() == ["a"]
    setup.time += LIFETIME_SECONDS
    assert [setup.names() for _ in range(3)] == [["a"]] * 3 and len(setup.waiting) == 1
    setup.work()
    assert setup.names() == ["b"] and len(setup.asked) == 2


def test_an_old_list_serves_as_long_as_there_is_no_other(setup):
    assert setup.names() == ["a"]
    setup.fails = True
    for _ in range(5):
        setup.time += LIFETIME_SECONDS * 100
        assert setup.names() == ["a"] and len(setup.waiting) == 1
        setup.work()
    setup.time += RETRY_WAIT_SECONDS - 1
    assert setup.names() == ["a"] and not setup.waiting
    setup.fails = False
    setup.answers = "......g"
    setup.time += 1
    assert setup.names() == ["a"]
    setup.work()
    assert setup.names() == ["g"]


def test_without_a_list_the_failure_is_told_and_asking_pauses(setup):
    setup.fails = True
    for _ in range(3):
        with pytest.raises(GatewayError, match="No list from one"):
            setup.names()
    assert setup.asked == ["one"]
    setup.time += RETRY_WAIT_SECONDS
    setup.fails = False
    assert setup.names() == ["b"]


def test_a_fault_of_the_provider_is_a_failure_like_any_other(setup, caplog):
    """Otherwise every request would ask again."""
    faults = []

    def broken(upstream):
        faults.append(upstream.name)
        raise KeyError("data")

    lists = setup.cache(broken)
    for _ in range(3):
        with pytest.raises(GatewayError, match="has failed"):
            lists.wait_for(UPSTREAM)
    assert faults == ["one"] and "KeyError" in caplog.text
    assert len(caplog.records) == 1, "a fault is logged once"
    setup.time += RETRY_WAIT_SECONDS
    with pytest.raises(GatewayError, match="has failed"):
        lists.cached(UPSTREAM)
    setup.work()
    assert faults == ["one", "one"] and not setup.waiting


def test_upstreams_do_not_share(setup):
    assert setup.names() == ["a"] and setup.names(OTHER) == ["b"] and setup.names() == ["a"]


def test_of_many_who_have_no_list_one_asks(setup):
    begun, go_on = threading.Event(), threading.Event()

    def slow(upstream):
        begun.set()
        assert go_on.wait(20)
        return setup.fetch(upstream)

    lists = setup.cache(slow)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(lists.wait_for, UPSTREAM) for _ in range(8)]
        assert begun.wait(20)
        go_on.set()
        assert [[model.id for model in one.result(20)] for one in waiting] == [["a"]] * 8
    assert len(setup.asked) == 1


def test_without_a_thread_to_be_had_the_next_request_tries_again(setup):
    def none_left(work):
        raise RuntimeError("can't start new thread")

    lists = setup.cache(background=none_left)
    assert [model.id for model in lists.wait_for(UPSTREAM)] == ["a"]
    setup.time += LIFETIME_SECONDS
    assert [[model.id for model in lists.wait_for(UPSTREAM)] for _ in range(2)] == [["a"], ["a"]]


def test_a_cached_list_is_returned_without_waiting(setup):
    assert setup.lists.cached(UPSTREAM) is None and not setup.asked, "no list before the first request"
    setup.names()
    assert [model.id for model in setup.lists.cached(UPSTREAM)] == ["a"]
    setup.time += LIFETIME_SECONDS
    assert [model.id for model in setup.lists.cached(UPSTREAM)] == ["a"] and len(setup.waiting) == 1
    setup.work()
    assert [model.id for model in setup.lists.cached(UPSTREAM)] == ["b"] and not setup.waiting


def test_a_failure_is_cached_too_and_retried_in_the_background(setup):
    setup.fails = True
    for _ in range(2):
        with pytest.raises(GatewayError, match="No list from one"):
            setup.names()
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.cached(UPSTREAM)
    assert not setup.waiting, "tries are spaced"
    setup.time += RETRY_WAIT_SECONDS
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.cached(UPSTREAM)
    setup.fails = False
    setup.work()
    assert [model.id for model in setup.lists.cached(UPSTREAM)] == ["b"]


def test_asking_asks_and_keeps_the_answer(setup):
    assert setup.names() == ["a"]
    assert [model.id for model in setup.lists.refresh(UPSTREAM)] == ["b"] and setup.names() == ["b"]
    setup.fails = True
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.refresh(UPSTREAM)
    assert setup.names() == ["b"]


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(setup, caplog):
    caplog.set_level("INFO", "floway")
    setup.fails = True
    for _ in range(3):
        with pytest.raises(GatewayError):
            setup.names()
        setup.time += RETRY_WAIT_SECONDS
    setup.fails = False
    assert setup.names() == ["d"]
    assert [record.getMessage() for record in caplog.records] == [
        "The models of upstream one cannot be loaded: No list from one.",
        "The models of upstream one can be loaded again",
    ]


def test_a_list_that_is_too_old_is_not_used(setup):
    setup.lists = setup.sharing_cache()
    assert setup.names() == ["a"]
    setup.fails = True
    setup.time += MAX_AGE_SECONDS
    assert setup.lists.cached(UPSTREAM) is None
    for _ in range(2):
        with pytest.raises(GatewayError, match="No list from one"):
            setup.names()
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.cached(UPSTREAM)
    assert len(setup.asked) == 2 and not setup.waiting
    setup.fails = False
    setup.time += RETRY_WAIT_SECONDS
    assert setup.names() == ["c"]


def test_a_process_uses_the_list_that_another_one_has_stored(setup):
    one, other = setup.sharing_cache(), setup.sharing_cache()
    assert setup.names(lists=one) == setup.names(lists=other) == ["a"] and len(setup.asked) == 1
    setup.time += LIFETIME_SECONDS
    for lists in (one, other):
        assert setup.names(lists=lists) == ["a"]
        setup.work()
    assert setup.names(lists=one) == setup.names(lists=other) == ["b"] and len(setup.asked) == 2


def test_a_process_that_starts_uses_the_stored_list_at_once(setup):
    setup.names(lists=setup.sharing_cache())
    setup.time += LIFETIME_SECONDS
    setup.fails = True
    restarted = setup.sharing_cache()
    assert [model.id for model in restarted.cached(UPSTREAM)] == ["a"] and len(setup.asked) == 1
    setup.work()
    assert setup.names(lists=restarted) == ["a"] and len(setup.asked) == 2


def test_a_list_is_refreshed_when_the_upstream_names_another_etag(setup):
    setup.etag = "1"
    setup.names()
    setup.lists.note_etag(UPSTREAM, None)
    setup.lists.note_etag(UPSTREAM, "1")
    setup.time += ETAG_GRACE_SECONDS
    assert setup.names() == ["a"] and not setup.waiting
    setup.lists.note_etag(UPSTREAM, "2")
    setup.lists.note_etag(UPSTREAM, None)
    assert setup.names() == ["a"] and len(setup.waiting) == 1
    setup.work()
    for _ in range(3):  # the etag is never that of the list: once a minute at most
        assert setup.names() == ["b"]
        setup.work()
    assert len(setup.asked) == 2


def test_one_model_is_found_in_memory_only(setup):
    assert setup.lists.find(UPSTREAM, "a") is None and not setup.asked
    setup.names()
    assert setup.lists.find(UPSTREAM, "a").id == "a" and setup.lists.find(UPSTREAM, "b") is None


def test_a_clock_that_is_set_back_has_the_list_refreshed(setup):
    setup.names()
    setup.time -= 3600
    assert setup.names() == ["a"]
    setup.work()
    assert setup.names() == ["b"]


def test_a_failure_of_the_database_is_no_fault_of_the_upstream(setup, caplog):
    broken = setup.cache(lambda upstream: database_fails())
    with pytest.raises(peewee.OperationalError):
        broken.wait_for(UPSTREAM)
    assert broken.cached(UPSTREAM) is None, "the next caller tries again"
    setup.lists = setup.cache(lambda upstream: setup.fetch(upstream) if not setup.asked else database_fails())
    setup.names()
    setup.time += LIFETIME_SECONDS
    for _ in range(2):
        assert setup.names() == ["a"] and len(setup.waiting) == 1
        setup.work()
    assert "could not be refreshed: the disk is full" in caplog.text


def database_fails():
    raise peewee.OperationalError("the disk is full")
