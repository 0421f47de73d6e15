"""Store a response, before the client learns that it is complete."""

import logging
import time
from typing import Any

from floway_core.contexts import SnapshotCommitContext
from floway_core.conversation.commit import commit, snapshot_mode
from floway_core.conversation.records import Turn
from floway_core.engine import account, compaction
from floway_core.engine.attempt import Attempt
from floway_core.errors import GatewayError, UpstreamBroken
from floway_core.protocol.items import replaces_history
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import call_plugin
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.engine")


def store_response(gateway: Gateway, attempt: Attempt, response: dict[str, Any]) -> None:
    """Store a complete response, unless the client sent ``store: false``; in a conversation, store its items even then.

    :param response: the response object with its output.
    :raises GatewayError: 503 ``storage_failed``; nothing of the response is stored.
    :raises UpstreamBroken: the request asked for a compaction, and the response contains none.
    """
    turn, context = attempt.turn, attempt.context
    check_compacted(turn, response)
    upstream_id = None if attempt.summarises else context.upstream.id
    if not turn.store and turn.remember:
        turn.remember([item for item in response["output"] if isinstance(item, dict)], upstream_id)
    if not turn.is_stored:
        return
    hooks, mode = gateway.providers.hooks[context.upstream.kind], snapshot_mode(response)

    def commit_context(metadata: dict[str, Any]) -> SnapshotCommitContext:
        return SnapshotCommitContext(context, turn.response_id, mode, metadata)

    # Before the transaction: a slow observer must not lock the database.
    previous_metadata = turn.previous.metadata if turn.previous else {}
    observed = hooks.collect_observed_metadata(previous_metadata, commit_context)

    attempt.trace.unstored = True  # until the commit has succeeded
    try:
        commit(
            gateway.services.database,
            gateway.history_cache,
            turn,
            upstream_id=upstream_id,
            response=account.without_account_fields(attempt.provider, response),
            ordinal=context.previous.ordinal if context.previous else lambda: 0,
            hook=lambda: call_plugin(context, "on_snapshot_commit", hooks.collect_metadata, observed, commit_context),
        )
    except (*DATABASE_ERRORS, ValueError) as error:  # ValueError: a value cannot be stored as JSON
        log.error("Response %s could not be stored: %s: %s", turn.response_id, type(error).__name__, error)
        message = "The response could not be stored."
        raise GatewayError(503, message, code="storage_failed", headers={"retry-after": "1"}) from error
    attempt.trace.unstored = False
    attempt.trace.attempts[-1].committed = time.monotonic()


def check_compacted(turn: Turn, response: dict[str, Any]) -> None:
    """Check that the response to a request for a compaction contains a complete one.

    :raises UpstreamBroken: it does not. The client would drop its history without a replacement.
    """
    if not compaction.is_requested(turn.input):
        return
    output = [item for item in response["output"] if isinstance(item, dict)]
    if response.get("status") != "completed" or not replaces_history(output):
        raise UpstreamBroken("The upstream did not compact the conversation.")
