"""The model list: parsed tolerantly, kept in memory and in the database, renewed by one thread behind the scenes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from floway_codex.account import accounts
from floway_codex.account.auth_file import import_account
from floway_codex.catalogue.cache import (
    ETAG_GRACE_SECONDS,
    MAX_AGE_SECONDS,
    REFRESH_AFTER_SECONDS,
    RETRY_AFTER_SECONDS,
    Catalogue,
)
from floway_codex.catalogue.source import ModelList, parse_models
from floway_codex.provider import CodexProvider
from floway_codex.wire.profile import load_profiles

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model

from .conftest import MODELS_URL, TOKEN_URL, auth_json, token

UPSTREAM = Upstream("up_1", "codex", "work", True, 1)
PATIENCE = 20.0


class Backend:
    """A source of lists with a clock; lists are scripted, and kept as the database keeps them."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0
        self.clock = 100_000.0
        self.kept = None
        self.waiting = []
        self.catalogue = self.process()

    def process(self, background=None):
        """The catalogue of another process on the same database."""
        return Catalogue(self, now=lambda: self.clock, background=background or self.waiting.append)

    def fetch(self, upstream):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        names, etag = answer if isinstance(answer, tuple) else (answer, "")
        self.kept = ModelList(tuple(Model(slug, "openai") for slug in names), etag, self.clock)
        return self.kept

    def load_stored(self, upstream):
        return self.kept

    def names(self, catalogue=None):
        return [model.id for model in (catalogue or self.catalogue).list_models(UPSTREAM)]

    def catch_up(self):
        """Do what was left for the background."""
        while self.waiting:
            self.waiting.pop(0)()


DOWN = GatewayError(502, "down")


def test_a_list_is_renewed_in_the_background_after_ten_minutes():
    backend = Backend(["a"], ["b"])
    assert backend.names() == backend.names() == ["a"]
    backend.clock += REFRESH_AFTER_SECONDS - 1
    assert backend.names() == ["a"] and not backend.waiting
    backend.clock += 1
    assert backend.names() == backend.names() == ["a"]
    assert len(backend.waiting) == 1 and backend.asked == 1
    backend.catch_up()
    assert backend.names() == ["b"] and backend.asked == 2


def test_the_old_list_serves_while_it_cannot_be_renewed_and_tries_are_spaced():
    backend = Backend(["a"], DOWN, ["b"])
    backend.names()
    backend.clock += REFRESH_AFTER_SECONDS
    for _ in range(3):
        assert backend.names() == ["a"]
        backend.catch_up()
    assert backend.asked == 2
    backend.clock += RETRY_AFTER_SECONDS
    assert backend.names() == ["a"]
    backend.catch_up()
    assert backend.names() == ["b"]


def test_a_list_of_yesterday_does_not_serve():
    backend = Backend(["a"], DOWN, ["b"])
    backend.names()
    backend.clock += MAX_AGE_SECONDS
    for _ in range(2):
        with pytest.raises(GatewayError, match="down"):
            backend.names()
    backend.clock += RETRY_AFTER_SECONDS
    assert backend.names() == ["b"] and backend.asked == 3


def test_without_a_list_the_failure_is_told_and_not_repeated_at_once():
    backend = Backend(DOWN, ["a"])
    for _ in range(3):
        with pytest.raises(GatewayError, match="down"):
            backend.names()
    assert backend.asked == 1
    backend.clock += RETRY_AFTER_SECONDS
    assert backend.names() == ["a"]


def test_another_process_takes_what_the_first_one_fetched():
    backend = Backend(["a"], ["b"])
    other = backend.process()
    assert backend.names() == backend.names(other) == ["a"] and backend.asked == 1
    backend.clock += REFRESH_AFTER_SECONDS
    for catalogue in (backend.catalogue, other):
        backend.names(catalogue)
        backend.catch_up()
    assert backend.names() == backend.names(other) == ["b"] and backend.asked == 2


def test_a_process_that_starts_serves_the_stored_list_at_once():
    backend = Backend(["a"], DOWN)
    backend.names()
    backend.clock += MAX_AGE_SECONDS - 1
    restarted = backend.process()
    assert backend.names(restarted) == ["a"] and backend.asked == 1
    backend.catch_up()
    assert backend.names(restarted) == ["a"] and backend.asked == 2


def test_an_answer_that_names_another_etag_has_the_list_renewed():
    backend = Backend((["a"], "1"), (["b"], "2"), (["c"], "3"))
    backend.names()
    backend.catalogue.note_etag(UPSTREAM, None)
    backend.catalogue.note_etag(UPSTREAM, "1")
    backend.clock += ETAG_GRACE_SECONDS
    assert backend.names() == ["a"] and not backend.waiting
    backend.catalogue.note_etag(UPSTREAM, "2")
    assert backend.names() == ["a"]
    backend.catch_up()
    assert backend.names() == ["b"] and not backend.waiting
    backend.catalogue.note_etag(UPSTREAM, "never the same")
    for _ in range(3):  # once a minute at most
        backend.names()
        backend.catch_up()
    assert backend.asked == 2


def test_what_is_at_hand_is_had_without_waiting():
    backend = Backend(["a"], ["b"], DOWN)
    at_hand = backend.catalogue.cached_models
    assert at_hand(UPSTREAM) is None and not backend.asked, "nothing is known before the first try"
    backend.names()
    backend.clock += REFRESH_AFTER_SECONDS
    assert at_hand(UPSTREAM)[0].id == "a" and backend.asked == 1
    backend.catch_up()
    assert at_hand(UPSTREAM)[0].id == "b"
    restarted = backend.process()
    assert restarted.cached_models(UPSTREAM)[0].id == "b" and backend.asked == 2, "what is stored is at hand"
    backend.clock += MAX_AGE_SECONDS
    assert at_hand(UPSTREAM) is None
    with pytest.raises(GatewayError, match="down"):
        backend.names()
    with pytest.raises(GatewayError, match="down"):
        at_hand(UPSTREAM)
    assert backend.asked == 3 and not backend.waiting


def test_a_failure_at_hand_is_mended_in_the_background():
    backend = Backend(DOWN, ["a"])
    with pytest.raises(GatewayError, match="down"):
        backend.names()
    backend.clock += RETRY_AFTER_SECONDS
    with pytest.raises(GatewayError, match="down"):
        backend.catalogue.cached_models(UPSTREAM)
    backend.catch_up()
    assert backend.catalogue.cached_models(UPSTREAM)[0].id == "a"


def test_asking_asks_and_keeps_the_answer():
    backend = Backend(["a"], ["b"], DOWN)
    assert backend.names() == ["a"]
    assert backend.catalogue.fetch_models(UPSTREAM)[0].id == "b" and backend.names() == ["b"]
    with pytest.raises(GatewayError, match="down"):
        backend.catalogue.fetch_models(UPSTREAM)
    assert backend.names() == ["b"]


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(caplog):
    caplog.set_level("INFO")
    backend = Backend(DOWN, DOWN, GatewayError(502, "another"), ["a"])
    for _ in range(3):
        with pytest.raises(GatewayError):
            backend.names()
        backend.clock += RETRY_AFTER_SECONDS
    assert backend.names() == ["a"]
    assert [record.getMessage() for record in caplog.records] == [
        "The models of upstream work could not be loaded: down",
        "The models of upstream work could not be loaded: another",
        "The models of upstream work could be loaded again",
    ]


def test_one_thread_asks_and_the_others_wait_or_take_the_old_list():
    inside, go = threading.Event(), threading.Event()
    backend = Backend(["a"], ["b"])
    fetch = backend.fetch

    def slow(upstream):
        inside.set()
        assert go.wait(PATIENCE)
        return fetch(upstream)

    backend.fetch = slow
    with ThreadPoolExecutor(6) as pool:
        backend.catalogue = backend.process(background=pool.submit)
        waiting = [pool.submit(backend.names) for _ in range(5)]
        assert inside.wait(PATIENCE)
        go.set()
        assert [one.result(PATIENCE) for one in waiting] == [["a"]] * 5 and backend.asked == 1

        backend.clock += REFRESH_AFTER_SECONDS
        inside.clear()
        go.clear()
        assert backend.names() == ["a"]
        assert inside.wait(PATIENCE)
        assert backend.names() == backend.names() == ["a"]  # not held up
        go.set()
    assert backend.names() == ["b"] and backend.asked == 2


def test_a_failure_in_the_background_that_nobody_expects_is_logged_and_not_the_end(caplog):
    backend = Backend(["a"], RuntimeError("broken"), ["b"])
    backend.names()
    backend.clock += REFRESH_AFTER_SECONDS
    backend.names()
    backend.catch_up()
    assert "broken" in caplog.text
    backend.clock += RETRY_AFTER_SECONDS
    backend.names()
    backend.catch_up()
    assert backend.names() == ["b"]


def test_entries_are_kept_whole_and_malformed_ones_skipped(caplog):
    body = (
        b'{"models": [{"slug": "a", "visibility": "hide", "new_field": [1]}, {"display_name": "b"}, "c", '
        b'{"slug": ""}, {"slug": 4}, {"slug": "d"}], "more": 1}'
    )
    models = parse_models(body)
    assert [model.id for model in models] == ["a", "d"]
    assert models[0].details == {"slug": "a", "visibility": "hide", "new_field": [1]}
    assert models[0].owned_by == "openai" and caplog.text.count("skipped") == 4


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"models": {}}', b"null", b"\xff"])
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


@pytest.mark.parametrize("renewals", [0, 1])
def test_a_401_that_says_so_ends_the_sign_in(services, provider, upstream, network, renewals):
    for _ in range(renewals):
        network.get(MODELS_URL, status=401, json={"detail": "Unauthorized"})
    network.get(MODELS_URL, status=401, json={"error": {"code": "token_invalidated", "message": "Signed out."}})
    network.post(TOKEN_URL, json={"access_token": token("second")})
    with pytest.raises(GatewayError, match=r"session_terminated \(Signed out\).*floway codex login") as refused:
        provider.list_models(upstream)
    assert (refused.value.status, refused.value.code) == (503, "session_terminated")
    assert accounts.find_account(services, upstream.id).state == "session_terminated"
    assert len([call for call in network.calls if call.request.url == TOKEN_URL]) == renewals


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_any_other_answer_is_an_error_that_names_the_status(provider, upstream, network, status):
    network.get(MODELS_URL, status=status, body="<html>secret page</html>")
    network.post(TOKEN_URL, json={"access_token": token("second")})
    with pytest.raises(GatewayError, match=str(status)) as refused:
        provider.list_models(upstream)
    assert refused.value.status == 502 and "secret page" not in refused.value.message


def test_the_list_is_stored_and_outlives_the_process(services, upstream, network):
    network.get(MODELS_URL, json={"models": [{"slug": "a", "more": "é\u0000"}]}, headers={"etag": 'W/"1"'})
    first = CodexProvider(services).list_models(upstream)
    network.reset()
    assert CodexProvider(services).list_models(upstream) == first  # without the network
    import_account(services, auth_json(account="acct-2"))  # another upstream has its own
    with services.database.connection_context():
        rows = services.database.execute_sql("SELECT upstream_id, client_version, etag FROM codex_catalogue").fetchall()
    assert rows == [(upstream.id, list(load_profiles())[-1], 'W/"1"')]


def test_a_list_for_another_version_of_the_cli_is_not_used(services, provider, upstream, network):
    network.get(MODELS_URL, json={"models": [{"slug": "a"}]})
    provider.list_models(upstream)
    with services.database.connection_context():
        services.database.execute_sql("UPDATE codex_catalogue SET client_version = '0.1.0'")
    network.reset()
    network.get(MODELS_URL, json={"models": [{"slug": "b"}]})
    assert [model.id for model in CodexProvider(services).list_models(upstream)] == ["b"]
