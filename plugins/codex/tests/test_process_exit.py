"""A process that ends waits for the token that a thread of its own is renewing: else the account would be lost."""

from concurrent.futures import ThreadPoolExecutor

from floway_core.testing import Installation

from . import gateways


def test_a_command_that_is_done_before_the_renewal(backend):
    with Installation(gateways.settings(backend), installed=["codex"]) as installation:
        gateways.import_account(installation, backend.new_account(access_lifetime=-10))
        gateways.keep_models(installation, age=3600)
        backend.clear()
        with ThreadPoolExecutor() as pool, backend.hold_responses():
            done = pool.submit(installation.run, "models")
            backend.wait_for_requests(1)
        assert done.result().returncode == 0
        (row,) = gateways.status(installation)
        assert installation.run("upstreams", "test", row["upstream"]).returncode == 0
        assert backend.refreshes == 1
