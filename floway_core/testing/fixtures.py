"""Fixtures for pytest: put ``pytest_plugins = ["floway_core.testing.fixtures"]`` into a ``conftest.py``."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from floway_core.testing.gateway import RunningGateway
from floway_core.testing.installation import Installation
from floway_core.testing.upstream import FakeUpstream, unreachable_url

for module in (
    *("contract", "contract_base", "answer_contract", "body_contract", "operator_contract"),
    *("dialect_contract", "dialect_contract_base", "dialect_answer_contract", "dialect_error_contract"),
):
    pytest.register_assert_rewrite(f"floway_core.testing.{module}")  # before the first import


@pytest.fixture
def fake_upstream() -> Iterator[FakeUpstream]:
    """A scripted upstream for one test."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A URL at which no server listens."""
    with unreachable_url() as url:
        yield url


@pytest.fixture
def install() -> Iterator[Callable[..., Installation]]:
    """Creates an ``Installation`` that is removed after the test."""
    installations: list[Installation] = []

    def create(*arguments: Any, **options: Any) -> Installation:
        installations.append(Installation(*arguments, **options))
        return installations[-1]

    yield create
    for installation in installations:
        installation.remove()


@pytest.fixture
def start_gateway() -> Iterator[Callable[..., RunningGateway]]:
    """Starts a ``RunningGateway`` that is stopped after the test."""
    gateways: list[RunningGateway] = []

    def start(*arguments: Any, **options: Any) -> RunningGateway:
        gateways.append(RunningGateway(*arguments, **options))
        return gateways[-1]

    yield start
    for gateway in gateways:
        gateway.__exit__()
