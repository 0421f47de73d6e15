"""Where log lines go."""

import logging
import sys


def configure_logging(level: str) -> None:
    """Send what the program logs to standard error, one line each, from ``level`` (``debug``, ``info``, ...) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("floway").setLevel(level.upper())
    logging.getLogger("floway_core").setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote what upstreams send
