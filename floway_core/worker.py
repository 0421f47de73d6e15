"""gunicorn's worker with threads, as Floway needs it."""

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """Refuses new connections while it stops: else they would wait, unanswered, until the last stream has ended."""

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()
