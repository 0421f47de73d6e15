"""A pytest plugin: the fixture `codex_simulator`."""

from collections.abc import Iterator

import pytest

from .server import Simulator


@pytest.fixture
def codex_simulator() -> Iterator[Simulator]:
    """A running simulator of its own for each test."""
    with Simulator() as simulator:
        yield simulator
