"""The model list: parsed tolerantly, cached, loaded by one thread, and still there when a reload fails."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from floway_codex.catalogue import MAX_AGE, RETRY_AFTER, Catalogue, parse_models

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model

from .conftest import MODELS_URL, TOKEN_URL, token

UPSTREAM = Upstream("up_1", "codex", "work", True, 1)
PATIENCE = 20.0


class Shelf:
    """A catalogue with a clock, whose lists are scripted."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.loads = 0
        self.clock = 1000.0
        self.catalogue = Catalogue(self.load, now=lambda: self.clock)

    def load(self, upstream):
        self.loads += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [Model(slug, "openai") for slug in answer]

    def names(self):
        return [model.id for model in self.catalogue.models(UPSTREAM)]


def test_a_list_is_kept_for_ten_minutes():
    shelf = Shelf(["a"], ["b"])
    assert shelf.names() == shelf.names() == ["a"]
    shelf.clock += MAX_AGE - 1
    assert shelf.names() == ["a"] and shelf.loads == 1
    shelf.clock += 1
    assert shelf.names() == ["b"] and shelf.loads == 2


def test_the_old_list_serves_when_a_reload_fails():
    shelf = Shelf(["a"], GatewayError(502, "down"), ["b"])
    shelf.names()
    shelf.clock += MAX_AGE
    assert shelf.names() == shelf.names() == ["a"] and shelf.loads == 2
    shelf.clock += RETRY_AFTER
    assert shelf.names() == ["b"]


def test_without_a_list_the_failure_is_told_and_not_repeated_at_once():
    shelf = Shelf(GatewayError(502, "down"), ["a"])
    for _ in range(3):
        with pytest.raises(GatewayError, match="down"):
            shelf.names()
    assert shelf.loads == 1
    shelf.clock += RETRY_AFTER
    assert shelf.names() == ["a"]


def test_one_thread_loads_and_the_others_wait_or_take_the_old_list():
    inside, go = threading.Event(), threading.Event()
    shelf = Shelf(["a"], ["b"])
    load = shelf.load

    def slow(upstream):
        inside.set()
        assert go.wait(PATIENCE)
        return load(upstream)

    shelf.catalogue = Catalogue(slow, now=lambda: shelf.clock)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(shelf.names) for _ in range(5)]
        assert inside.wait(PATIENCE)
        go.set()
        assert [one.result(PATIENCE) for one in waiting] == [["a"]] * 5 and shelf.loads == 1

        shelf.clock += MAX_AGE
        inside.clear()
        go.clear()
        reloading = pool.submit(shelf.names)
        assert inside.wait(PATIENCE)
        assert shelf.names() == ["a"]  # not held up
        go.set()
        assert reloading.result(PATIENCE) == ["b"]


def test_entries_are_kept_whole_and_malformed_ones_skipped(caplog):
    body = (b'{"models": [{"slug": "a", "visibility": "hide", "new_field": [1]}, {"display_name": "b"}, "c", '
            b'{"slug": ""}, {"slug": 4}, {"slug": "d"}], "more": 1}')
    models = parse_models(body)
    assert [model.id for model in models] == ["a", "d"]
    assert models[0].details == {"slug": "a", "visibility": "hide", "new_field": [1]}
    assert models[0].owned_by == "openai" and caplog.text.count("skipped") == 4


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"models": {}}', b"null"])
def test_what_is_no_model_list_is_an_error(body):
    with pytest.raises(GatewayError) as refused:
        parse_models(body)
    assert refused.value.status == 502


# ------------------------------------------------------------------------------------------------ through the provider
def test_a_refused_token_is_renewed_once(provider, upstream, network):
    network.get(MODELS_URL, status=401, json={"error": {"code": "token_expired"}})
    network.get(MODELS_URL, json={"models": [{"slug": "a"}]})
    network.post(TOKEN_URL, json={"access_token": token("second")})
    assert [model.id for model in provider.list_models(upstream)] == ["a"]
    bearers = [call.request.headers["authorization"][-12:] for call in network.calls if "models" in call.request.url]
    assert bearers == ["access-first", bearers[1]] and bearers[1].endswith(".second")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_any_other_answer_is_an_error_that_names_the_status(provider, upstream, network, status):
    network.get(MODELS_URL, status=status, body="<html>secret page</html>")
    network.post(TOKEN_URL, json={"access_token": token("second")})
    with pytest.raises(GatewayError, match=str(status)) as refused:
        provider.list_models(upstream)
    assert refused.value.status == 502 and "secret page" not in refused.value.message
