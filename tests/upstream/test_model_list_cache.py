"""How long a model list serves, who asks for the next one, and what happens when there is none."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_core.upstream.model_list_cache import LIFETIME_SECONDS, RETRY_WAIT_SECONDS, ModelListCache

UPSTREAM = Upstream("up_1", "other", "one", True, 1)
OTHER = Upstream("up_2", "other", "two", True, 2)


class Setup:
    """Lists with a clock that is set, and work in the background that is done when the test says so."""

    def __init__(self):
        self.time = 1000.0
        self.asked = []
        self.answers = "abcdef"
        self.fails = False
        self.waiting = []
        self.lists = ModelListCache(self.fetch, now=lambda: self.time, background=self.waiting.append)

    def fetch(self, upstream):
        self.asked.append(upstream.name)
        if self.fails:
            raise GatewayError(502, f"No list from {upstream.name}.")
        return [Model(self.answers[len(self.asked) - 1], "them")]

    def names(self, upstream=UPSTREAM):
        return [model.id for model in self.lists.wait_for(upstream)]

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

    lists = ModelListCache(broken, now=lambda: setup.time, background=setup.waiting.append)
    for _ in range(3):
        with pytest.raises(GatewayError, match="has a fault"):
            lists.wait_for(UPSTREAM)
    assert faults == ["one"] and "KeyError" in caplog.text
    setup.time += RETRY_WAIT_SECONDS
    with pytest.raises(GatewayError, match="has a fault"):
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

    lists = ModelListCache(slow, now=lambda: setup.time)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(lists.wait_for, UPSTREAM) for _ in range(8)]
        assert begun.wait(20)
        go_on.set()
        assert [[model.id for model in one.result(20)] for one in waiting] == [["a"]] * 8
    assert len(setup.asked) == 1


def test_without_a_thread_to_be_had_the_next_request_tries_again(setup):
    def none_left(work):
        raise RuntimeError("can't start new thread")

    lists = ModelListCache(setup.fetch, now=lambda: setup.time, background=none_left)
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
    caplog.set_level("INFO")
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
