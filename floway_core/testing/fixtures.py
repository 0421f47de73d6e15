"""Fixtures for pytest: put ``pytest_plugins = ["floway_core.testing.fixtures"]`` into a ``conftest.py``."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from floway_core.testing.gateway import Installation, RunningGateway
from floway_core.testing.upstream import FakeUpstream, unreachable_url

pytest.register_assert_rewrite("floway_core.testing.contract")  # before anybody imports it


@pytest.fixture
def fake_upstream() -> Iterator[FakeUpstream]:
    """A scripted upstream of its own for each test."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A URL at which nobody listens."""
    with unreachable_url() as url:
        yield url


@pytest.fixture
def install() -> Iterator[Callable[..., Installation]]:
    """Makes an ``Installation`` for the length of the test."""
    made: list[Installation] = []

    def make(*arguments: Any, **options: Any) -> Installation:
        made.append(Installation(*arguments, **options))
        return made[-1]

    yield make
    for installation in made:
        installation.remove()


@pytest.fixture
def start_gateway() -> Iterator[Callable[..., RunningGateway]]:
    """Starts a ``RunningGateway`` for the length of the test."""
    made: list[RunningGateway] = []

    def start(*arguments: Any, **options: Any) -> RunningGateway:
        made.append(RunningGateway(*arguments, **options))
        return made[-1]

    yield start
    for gateway in made:
        gateway.__exit__()
