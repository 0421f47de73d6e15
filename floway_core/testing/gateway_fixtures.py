"""Fixtures that the contracts of providers and of dialects share."""

import pytest

from floway_core.testing.client import ApiClient
from floway_core.testing.gateway import RunningGateway
from floway_core.testing.upstream import FakeUpstream

JSON = ("content-type", "application/json")


class GatewayFixtures:
    """Fixtures for the parts of the fixture ``running``: the upstream and the gateway of all tests of a class."""

    @pytest.fixture
    def upstream(self, running: tuple[FakeUpstream, RunningGateway]) -> FakeUpstream:
        """The upstream, without recorded requests and scripted replies."""
        running[0].forget()
        return running[0]

    @pytest.fixture
    def gateway(self, running: tuple[FakeUpstream, RunningGateway]) -> RunningGateway:
        """The gateway."""
        return running[1]

    @pytest.fixture
    def caller(self, gateway: RunningGateway) -> ApiClient:
        """A client of the gateway."""
        return ApiClient(gateway.url, gateway.key)
