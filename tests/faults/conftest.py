"""Gateways of their own for tests that overload, stop or break them."""

import os

import pytest

from floway_core.testing import RunningGateway

from ..support.stored_upstreams import add_upstreams


@pytest.fixture
def start(plugin_folder):
    """Starts gateways with the test plugins, and one upstream; they live as long as the test."""
    started = []

    def make(**settings):
        environ = {"TEST_JOURNAL": os.devnull}
        started.append(RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ))
        add_upstreams(started[-1], first="wire")
        return started[-1]

    yield make
    logs = [gateway.log for gateway in started]
    for gateway in started:
        gateway.__exit__()
    assert not any("Traceback" in log for log in logs), logs
