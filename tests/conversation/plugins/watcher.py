"""An observer for tests: counts in the metadata. ``x-test-watcher`` makes it fail."""

from floway_core.hookspecs import hookimpl

running = []
"""The services of this process."""


@hookimpl
def on_start(services):
    running.append(services)


@hookimpl
def on_snapshot_commit(ctx):
    ctx.metadata["seen"] = ctx.metadata.get("seen", 0) + 1
    how = ctx.attempt.request.headers.get("x-test-watcher")
    if how == "raise":
        raise RuntimeError("the observer stumbles")
    if how == "sql":
        running[-1].database.execute_sql("SELECT nothing FROM nowhere")
    if how == "not JSON":
        ctx.metadata["thing"] = object()
    if how == "list":
        ctx.metadata = [1]
