"""The input that the connection of a conversation holds, so that requests need not send it again."""

import dataclasses

from floway_codex.websocket.body import Answer
from floway_codex.websocket.increments import Progress, compared_fields
from floway_codex.websocket.pool import ConversationKey
from floway_codex.wire.request import is_compaction, moved_values
from floway_core.contexts import AttemptContext, ResponsesRequestContext
from floway_core.protocol.items import replaces_history


def conversation_key(ctx: AttemptContext) -> ConversationKey:
    """Return the key of the connection that a request may use."""
    attempt, key = ctx.provider_state, ctx.request.api_key.id
    identity, account = attempt.identity, attempt.account.account_id
    return ConversationKey(ctx.upstream.id, account, key, identity.session, identity.thread, attempt.user_agent)


def add_held_items(ctx: ResponsesRequestContext) -> None:
    """Complete the input with the items that the connection holds, because they have to be sent after all."""
    prepared = ctx.attempt.provider_state.input
    if prepared.held is not None:
        ctx.body["input"] = [*prepared.held.parse_input(), *ctx.body["input"]]
        ctx.attempt.provider_state.input = dataclasses.replace(prepared, held=None)


def note_sent(ctx: ResponsesRequestContext, texts: tuple[bytes, ...], answer: Answer) -> Progress:
    """Return the progress of a connection after an answer.

    :param texts: the whole input, as in ``Progress``.
    """
    prepared = ctx.attempt.provider_state.input
    output = [item for _, item in sorted(answer.output.items())]
    starts_new_history = is_compaction(ctx.body) or replaces_history(output)
    return Progress(
        body=compared_fields(ctx.body),
        texts=texts,
        state=prepared.state,
        response_id=str(answer.response_id),
        output=output,
        moved=moved_values(ctx.attempt.provider_state, ctx.attempt.request.body),
        continued_as=None if starts_new_history else ctx.attempt.response_id,
        client_items=len(ctx.attempt.request.body["input"]),
    )
