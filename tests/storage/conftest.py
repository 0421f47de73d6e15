"""The time of day for tests of limits and budgets, in which days and months end."""

import time

import pytest


@pytest.fixture
def clock(monkeypatch, request):
    """The time of day, which stands still at the module's ``NOON`` until a test moves it."""

    class Clock:
        now = float(request.module.NOON)

    monkeypatch.setattr(time, "time", lambda: Clock.now)
    return Clock
