"""Many requests, workers and gateways with one account: its refresh token is spent once, and none of them fails."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from floway_codex.simulator import Simulator

from . import gateways

pytestmark = pytest.mark.soak

PATIENCE = 60.0
LEASE = "3"
"""Seconds. The killed gateway would wait a quarter of it for the token endpoint."""


@pytest.fixture
def simulator():
    with Simulator() as running:
        yield running


def ask_at_once(gateways_, count):
    """Send ``count`` requests in parallel, to the gateways in turn; their statuses."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(gateways.ask, gateways_[number % len(gateways_)]) for number in range(count)]
        return [one.result(PATIENCE).status for one in asked]


def refusals(simulator):
    """How many requests the simulated backend refused for their token."""
    return sum("401" in request.answered for request in simulator.requests)


def token_requests(simulator):
    return [request for request in simulator.requests if request.path == "/oauth/token"]


def test_a_hundred_requests_to_four_workers_refresh_once(simulator):
    with gateways.start(simulator, workers="4") as gateway:
        gateways.import_account(gateway, simulator.new_account(access_lifetime=-60))
        assert ask_at_once([gateway], 100) == [200] * 100
        assert simulator.refreshes == len(token_requests(simulator)) == 1
        assert refusals(simulator) == 0


def test_a_hundred_requests_that_are_all_refused_refresh_once(simulator):
    with gateways.start(simulator, workers="4") as gateway, ThreadPoolExecutor(100) as pool:
        gateways.import_account(gateway, simulator.new_account())
        assert gateways.ask(gateway).status == 200
        simulator.expire_access_tokens()
        simulator.clear()
        with simulator.hold_responses():
            asked = [pool.submit(gateways.ask, gateway) for _ in range(100)]
            simulator.wait_for_requests(100, PATIENCE)  # all of them have been sent with the old token
        assert [one.result(PATIENCE).status for one in asked] == [200] * 100
        assert refusals(simulator) == 100
        assert simulator.refreshes == len(token_requests(simulator)) == 1
        [shown] = gateways.status(gateway)
        assert shown["state"] == "active"


def test_two_gateways_on_one_database_refresh_once(simulator, database_url):
    with (
        gateways.on_database(simulator, database_url, workers="2") as one,
        gateways.on_database(simulator, database_url, workers="2") as two,
    ):
        gateways.import_account(one, simulator.new_account())
        for refreshes in (1, 2):
            simulator.expire_access_tokens()
            assert ask_at_once([one, two], 40) == [200] * 40
            assert simulator.refreshes == refreshes
        assert {seen["state"] for gateway in (one, two) for seen in gateways.status(gateway)} == {"active"}


def test_when_the_refreshing_gateway_is_killed_another_goes_on(simulator, database_url):
    with gateways.on_database(simulator, database_url, codex_refresh_lease=LEASE) as survivor:
        with gateways.on_database(simulator, database_url, codex_refresh_lease=LEASE) as victim:
            gateways.import_account(survivor, simulator.new_account(access_lifetime=-60))
            simulator.ignore_token_requests(1)
            gateways.caller(victim).create(model=gateways.MODEL)
            simulator.wait_for_requests(1, PATIENCE)  # the victim's, to the token endpoint
            victim.kill()
        held = gateways.run_sql(database_url, "SELECT lease_owner FROM codex_credentials")
        assert held[0][0], "the lease is not held any more, so there is nothing to wait for"
        assert ask_at_once([survivor], 5) == [200] * 5
        assert simulator.refreshes == 1
        assert gateways.run_sql(database_url, "SELECT lease_owner FROM codex_credentials") == [(None,)]


def test_a_refresh_that_gets_no_answer_is_a_503_and_the_next_request_tries_again(simulator):
    with gateways.start(simulator, codex_refresh_lease="1") as gateway:
        gateways.import_account(gateway, simulator.new_account(access_lifetime=-60))
        gateways.keep_models(gateway)
        simulator.ignore_token_requests(1)
        status, message = gateways.answer_of(gateways.ask(gateway))
        assert status == 503 and "cannot be renewed now" in message
        assert gateways.ask(gateway).status == 200
        assert simulator.refreshes == 1
