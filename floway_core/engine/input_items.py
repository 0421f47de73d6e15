"""Adapt a history to an upstream. What has been stored in the form that upstreams accept is not even parsed for it."""

from typing import Any

from floway_core.conversation.records import History
from floway_core.protocol.input_items import fit


def fit_for_upstream(history: History, upstream_id: str) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Return the items of a history for the upstream: the first ones as JSON, and the others.

    No id occurs twice. No id comes from another upstream, whose ids may have another form. Call ids are short
    enough, and the same in a call and its output. Fields that are null are removed.

    :returns: the first items as JSON texts, if they are known to need no change, and the items after them. Unchanged
        ones are the same objects.
    """
    items, issuers, texts, used_ids = history.items, history.issuers, [], set()
    if (ready := history.ready) and {None, upstream_id}.issuperset(issuers[: len(ready.texts)]):
        texts, used_ids = ready.texts, set(ready.ids)
        items, issuers = items[len(texts) :], issuers[len(texts) :]
    fitted = [
        fit(item, used_ids, is_foreign=issuer not in (None, upstream_id), is_own=issuer == upstream_id)
        for item, issuer in zip(items, issuers, strict=True)
    ]
    return texts, fitted
