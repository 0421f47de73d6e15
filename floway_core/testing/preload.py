"""Imported by the process from which those of ``processes`` are forked: what the command line and the server use."""

import contextlib
import gc
import importlib
import importlib.metadata
import os
import sys
from typing import Any

import floway_core.cli
import floway_core.server.command
import floway_core.server.worker
import floway_core.web.app  # noqa: F401
from floway_core.runtime.plugins import GROUP

PATH = [entry for entry in sys.path if entry and entry not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
"""Where the interpreter finds modules by itself."""

for point in importlib.metadata.entry_points(group=GROUP):
    with contextlib.suppress(Exception):  # the command names the plugin that cannot be imported
        importlib.import_module(point.module)


class _Known:
    """A distribution whose entry points have been read."""

    def __init__(self, distribution: importlib.metadata.Distribution) -> None:
        self._distribution = distribution
        self.entry_points = tuple(distribution.entry_points)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._distribution, name)


DISTRIBUTIONS = [*{dist.name: _Known(dist) for dist in [*importlib.metadata.distributions(path=PATH)][::-1]}.values()]
"""Those in ``PATH``: of several with one name the first, as for the interpreter."""

# What is loaded stays: the collectors of the new processes need not visit, and thereby copy, its pages.
gc.collect()
gc.freeze()
