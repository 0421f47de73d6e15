"""An observer for tests that kills its own process in the middle of a commit.

``x-test-kill``: a number (after that many statements of the transaction, counted from the hook, but before the COMMIT),
``commit`` (right before the COMMIT) or ``committed`` (right after it, before the client is told).
"""

import os
import signal
import threading

from floway_core.hookspecs import hookimpl

point = threading.local()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def count_down(event):
    left = getattr(point, "left", None)
    if isinstance(left, int):
        if left == 0:
            die()
        point.left = left - 1


@hookimpl
def register_providers(services):
    commit = services.database.commit

    def watched():
        left, point.left = getattr(point, "left", None), None
        if left is not None and left != "committed":  # a number: the transaction had fewer statements
            die()
        commit()
        if left == "committed":
            die()

    services.database.commit = watched
    services.database.query_hooks.append(count_down)
    return []


@hookimpl
def on_snapshot_commit(ctx):
    asked = ctx.attempt.request.headers.get("x-test-kill")
    if asked:
        point.left = int(asked) if asked.isdigit() else asked
