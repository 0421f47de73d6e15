"""How long a model list serves, who asks for the next one, and what happens when there is none."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from floway_openai.model_lists import LIFETIME, RETRY_AFTER, ModelLists

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model

UPSTREAM = Upstream("up_1", "openai", "one", True, 1)
OTHER = Upstream("up_2", "openai", "two", True, 2)


class Setup:
    """Lists with a clock that is set, and work in the background that is done when the test says so."""

    def __init__(self):
        self.time = 1000.0
        self.asked = []
        self.answers = "abcdef"
        self.fails = False
        self.waiting = []
        self.lists = ModelLists(self.fetch, now=lambda: self.time, background=self.waiting.append)

    def fetch(self, upstream):
        self.asked.append(upstream.name)
        if self.fails:
            raise GatewayError(502, f"No list from {upstream.name}.")
        return [Model(self.answers[len(self.asked) - 1], "them")]

    def names(self, upstream=UPSTREAM):
        return [model.id for model in self.lists.models(upstream)]

    def work(self):
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
def setup():
    return Setup()


def test_a_list_serves_for_its_lifetime(setup):
    assert setup.names() == ["a"]
    setup.time += LIFETIME - 1
    assert setup.names() == ["a"] and not setup.waiting


def test_an_old_list_serves_while_one_thread_renews_it(setup):
    assert setup.names() == ["a"]
    setup.time += LIFETIME
    assert [setup.names() for _ in range(3)] == [["a"]] * 3 and len(setup.waiting) == 1
    setup.work()
    assert setup.names() == ["b"] and len(setup.asked) == 2


def test_an_old_list_serves_as_long_as_there_is_no_other(setup):
    assert setup.names() == ["a"]
    setup.fails = True
    for _ in range(5):
        setup.time += LIFETIME * 100
        assert setup.names() == ["a"] and len(setup.waiting) == 1
        setup.work()
    setup.time += RETRY_AFTER - 1
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
    setup.time += RETRY_AFTER
    setup.fails = False
    assert setup.names() == ["b"]


def test_upstreams_do_not_share(setup):
    assert setup.names() == ["a"] and setup.names(OTHER) == ["b"] and setup.names() == ["a"]


def test_of_many_who_have_no_list_one_asks(setup):
    begun, go_on = threading.Event(), threading.Event()

    def slow(upstream):
        begun.set()
        assert go_on.wait(20)
        return setup.fetch(upstream)

    lists = ModelLists(slow, now=lambda: setup.time)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(lists.models, UPSTREAM) for _ in range(8)]
        assert begun.wait(20)
        go_on.set()
        assert [[model.id for model in one.result(20)] for one in waiting] == [["a"]] * 8
    assert len(setup.asked) == 1


def test_without_a_thread_to_be_had_the_next_request_tries_again(setup):
    def none_left(work):
        raise RuntimeError("can't start new thread")

    lists = ModelLists(setup.fetch, now=lambda: setup.time, background=none_left)
    assert [model.id for model in lists.models(UPSTREAM)] == ["a"]
    setup.time += LIFETIME
    assert [[model.id for model in lists.models(UPSTREAM)] for _ in range(2)] == [["a"], ["a"]]


def test_what_is_at_hand_is_had_without_waiting(setup):
    assert setup.lists.at_hand(UPSTREAM) is None and not setup.asked, "nothing is known before the first try"
    setup.names()
    assert [model.id for model in setup.lists.at_hand(UPSTREAM)] == ["a"]
    setup.time += LIFETIME
    assert [model.id for model in setup.lists.at_hand(UPSTREAM)] == ["a"] and len(setup.waiting) == 1
    setup.work()
    assert [model.id for model in setup.lists.at_hand(UPSTREAM)] == ["b"] and not setup.waiting


def test_a_failure_is_at_hand_too_and_mended_behind_the_scenes(setup):
    setup.fails = True
    for _ in range(2):
        with pytest.raises(GatewayError, match="No list from one"):
            setup.names()
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.at_hand(UPSTREAM)
    assert not setup.waiting, "tries are spaced"
    setup.time += RETRY_AFTER
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.at_hand(UPSTREAM)
    setup.fails = False
    setup.work()
    assert [model.id for model in setup.lists.at_hand(UPSTREAM)] == ["b"]


def test_asking_asks_and_keeps_the_answer(setup):
    assert setup.names() == ["a"]
    assert [model.id for model in setup.lists.ask(UPSTREAM)] == ["b"] and setup.names() == ["b"]
    setup.fails = True
    with pytest.raises(GatewayError, match="No list from one"):
        setup.lists.ask(UPSTREAM)
    assert setup.names() == ["b"]


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(setup, caplog):
    caplog.set_level("INFO")
    setup.fails = True
    for _ in range(3):
        with pytest.raises(GatewayError):
            setup.names()
        setup.time += RETRY_AFTER
    setup.fails = False
    assert setup.names() == ["d"]
    assert [record.getMessage() for record in caplog.records] == [
        "The models of upstream one cannot be had: No list from one.",
        "The models of upstream one can be had again",
    ]
