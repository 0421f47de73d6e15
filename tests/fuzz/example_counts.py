"""How much the fuzz tests try: ``FLOWAY_TEST_FUZZ`` is how many times as much as in the suite, and makes it random."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FLOWAY_TEST_FUZZ") or 1)


def examples(count: int) -> Any:
    """The settings of a test that tries so many examples in the suite, always the same ones."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
