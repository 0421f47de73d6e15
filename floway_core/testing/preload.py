"""Imported by the process from which those of ``processes`` are forked: what the command line and the server use."""

import contextlib
import gc
import importlib
import importlib.metadata
import os
import sys

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

# What is loaded stays: the collectors of the new processes need not visit, and thereby copy, its pages.
gc.collect()
gc.freeze()
