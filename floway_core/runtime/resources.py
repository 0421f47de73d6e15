"""How many threads and open files a worker may need."""

from floway_core.settings import Settings

SPARE_THREADS = 64
"""Threads beyond those for admitted requests: they reject the others, and respond to health checks."""

IDLE_CONNECTIONS = 1024
"""Connections of one worker beyond its threads: those without a running request."""

OTHER_THREADS = 16
"""Threads of one worker that serve no requests: the stream loop, sweeps, observers, model lists, the log."""

OTHER_FILES = 128
"""Descriptors of one worker besides its connections: database, pools, log, libraries."""


def files_needed(settings: Settings) -> int:
    """Return how many descriptors a worker may need at most."""
    return 2 * (settings.threads + SPARE_THREADS) + IDLE_CONNECTIONS + OTHER_FILES


def threads_needed(settings: Settings) -> int:
    """Return how many threads a worker may need at most."""
    return settings.threads + SPARE_THREADS + OTHER_THREADS
