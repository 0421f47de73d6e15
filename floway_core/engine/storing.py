"""The commit point: storing a response before the client learns that it is complete."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import peewee

from floway_core.contexts import SnapshotCommitContext
from floway_core.conversation.commit import commit
from floway_core.conversation.records import Turn
from floway_core.engine import account, compaction
from floway_core.engine.attempt import Attempt
from floway_core.errors import GatewayError, UpstreamBroken
from floway_core.protocol.items import replaces_history
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugins import ScopedHooks

log = logging.getLogger("floway.engine")


def store_response(gateway: Gateway, attempt: Attempt, response: dict[str, Any]) -> None:
    """Store a complete response, if the client wants that.

    :param response: the response object with its output.
    :raises GatewayError: it could not be stored; nothing of it is.
    :raises UpstreamBroken: it was to compact the conversation, and does not.
    """
    turn, context = attempt.turn, attempt.context
    check_compacted(turn, response)
    if not turn.store:
        return
    hooks = _guarded(gateway.providers.hooks[context.upstream.kind], gateway.services.database)

    def metadata(mode: str) -> dict[str, dict[str, Any]]:
        return hooks.collect_metadata(
            turn.previous.metadata if turn.previous else {},
            lambda own: SnapshotCommitContext(context, turn.response_id, mode, own),
        )

    attempt.trace.unstored = True  # until it is, whatever keeps it from being
    try:
        commit(
            gateway.services.database,
            gateway.history_cache,
            turn,
            upstream_id=None if attempt.summarises else context.upstream.id,
            response=account.without_account(attempt.provider, response),
            ordinal=context.previous.ordinal if context.previous else None,
            hook=metadata,
        )
    except (peewee.PeeweeException, ValueError) as error:  # ValueError: also the pool has no connection left
        log.error("Response %s could not be stored: %s: %s", turn.response_id, type(error).__name__, error)
        message = "The response could not be stored."
        raise GatewayError(503, message, code="storage_failed", headers={"retry-after": "1"}) from error
    attempt.trace.unstored = False


def check_compacted(turn: Turn, response: dict[str, Any]) -> None:
    """Make sure that a response whose request asks for a compaction holds one, and all of it.

    :raises UpstreamBroken: it does not. A client would drop the history for nothing.
    """
    if not compaction.is_requested(turn.input):
        return
    output = [item for item in response["output"] if isinstance(item, dict)]
    if response.get("status") != "completed" or not replaces_history(output):
        raise UpstreamBroken("The upstream did not compact the conversation.")


def _guarded(hooks: ScopedHooks, database: peewee.Database) -> ScopedHooks:
    """``hooks`` with each observer in a savepoint of its own: a query of theirs that fails would otherwise end the
    whole transaction on PostgreSQL, though their failures are nobody else's."""
    name = "on_snapshot_commit"
    if not hooks.observers[name]:
        return hooks

    def guarded(observer: Callable) -> Callable:
        def call(ctx: SnapshotCommitContext) -> None:
            with database.atomic():
                observer(ctx=ctx)

        return call

    observers = tuple((plugin, guarded(observer)) for plugin, observer in hooks.observers[name])
    return dataclasses.replace(hooks, observers={**hooks.observers, name: observers})
