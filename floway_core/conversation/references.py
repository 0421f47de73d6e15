"""Replace the references in a request by the stored items, and find the issuers of encrypted contents."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.load import ALIVE, IDS_PER_QUERY, PAYLOAD, find_issuers
from floway_core.conversation.payloads import SIZE_PREFIX, Decoder, parse_object, plain_size, storable_id
from floway_core.conversation.records import History
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.item_versions import item_text
from floway_core.protocol.items import MAY_REFER, blob_hash, is_bare, is_reference, item_types, usual_form
from floway_core.storage.db import Row, placeholders, select

MAX_SAME_ID = 50
"""How many stored items with the same id are compared to resolve a reference."""

_BY_ITEM_ID = """
FROM responses_items i
JOIN responses_snapshots s ON s.id = i.snapshot_id JOIN responses_conversations c ON c.id = s.conversation_id
WHERE {alive} AND i.api_key_id = ? AND i.item_id"""

_ITEMS = f"""
SELECT item.item_id, item.id, item.upstream_id, item.payload, same.first, item.snapshot_id, item.position
FROM responses_items item JOIN (
    SELECT MAX(i.id) AS last, MIN(i.id) AS first {_BY_ITEM_ID} IN ({{marks}}) GROUP BY i.item_id
) same ON same.last = item.id
"""

_SIZES = _ITEMS.replace(
    "item.upstream_id, item.payload", f"LENGTH(item.payload), SUBSTR(item.payload, 1, {SIZE_PREFIX})"
)
"""The sizes of the items that ``_ITEMS`` loads."""

_SAME_ID = f"""
SELECT i.id, i.upstream_id, i.payload, i.snapshot_id, i.position {_BY_ITEM_ID} = ? ORDER BY i.id DESC LIMIT {
    MAX_SAME_ID + 1
}
"""

_SAME_ID_SIZE = f"""
SELECT COALESCE(SUM(LENGTH(same.payload)), 0)
FROM (SELECT i.payload {_BY_ITEM_ID} = ? ORDER BY i.id DESC LIMIT {MAX_SAME_ID + 1}) same
"""

_AROUND = "SELECT position, payload, id FROM responses_items WHERE snapshot_id = ? AND position IN (?, ?)"

IssuedItem = tuple[dict[str, Any], str | None]
"""An item, and the upstream that issued it."""


@dataclass(frozen=True)
class _Lookup:
    """The parameters for resolving the references of one request."""

    database: peewee.Database
    api_key_id: str
    sent_items: Sequence[dict[str, Any]]
    """The input items of the request."""
    oldest: int
    """As in ``find_snapshot``."""
    limit: InputLimit
    """Counts the referenced items, once per reference, before they are loaded."""
    work: InputLimit
    """Counts everything that is decoded to find them."""

    def scope(self) -> tuple[str, int, str]:
        """Return the parameters of ``_BY_ITEM_ID``."""
        return self.api_key_id, self.oldest, self.api_key_id


def resolve_items(
    database: peewee.Database,
    api_key_id: str,
    sent_items: Sequence[dict[str, Any]],
    history: History,
    oldest: int,
    limit: InputLimit,
) -> History:
    """Replace references by their items, and find the issuers of encrypted contents.

    Reasoning without its content counts as a reference to the item of its id, if there is one.

    :param history: the history that the request continues; its items take precedence.
    :param limit: counts the bytes of the referenced items.
    :raises GatewayError: 404, an item does not exist; 400, they are too large.
    """
    types = item_types(sent_items)
    sent = list(sent_items)
    issuers: list[str | None] = [None] * len(sent)
    if not MAY_REFER.isdisjoint(types):
        lookup = _Lookup(database, api_key_id, sent_items, oldest, limit, limit.for_work())
        for position, stored in _find_referenced(lookup, history).items():
            if stored is not None:
                sent[position], issuers[position] = stored
        for item in sent:
            if is_reference(item):
                raise GatewayError(404, f"Item with id '{item.get('id')}' not found.", param="input")
        types = item_types(sent)
    hashes = {
        position: digest
        for position, item in enumerate(sent)
        if "encrypted_content" in item and (digest := blob_hash(item))
    }
    if hashes:
        issuer_of = find_issuers(database, api_key_id, hashes.values())
        for position, digest in hashes.items():
            issuers[position] = issuers[position] or issuer_of.get(digest)
    return History(sent, issuers, known_types=types)


def _find_referenced(lookup: _Lookup, history: History) -> dict[int, IssuedItem | None]:
    """Return the items of ``history`` and the stored items that the sent items refer to, by position of the reference.

    :raises GatewayError: 400, they are too large.
    """
    sent_items = lookup.sent_items
    references = {
        position: item["id"]
        for position, item in enumerate(sent_items)
        if (is_reference(item) or is_bare(item)) and isinstance(item.get("id"), str)
    }
    if not references:
        return {}
    in_history: dict[str, list[IssuedItem]] = {}
    for item, issuer in zip(reversed(history.items), reversed(history.issuers), strict=True):
        if isinstance(item.get("id"), str):
            in_history.setdefault(item["id"], []).append((item, issuer))
    resolved: dict[int, IssuedItem | None] = {
        position: next(
            (stored for stored in in_history[item_id] if _can_refer_to(sent_items[position], stored[0])), None
        )
        for position, item_id in references.items()
        if item_id in in_history
    }
    _count_repetitions(resolved.values(), lookup.limit)
    others = {position: item_id for position, item_id in references.items() if position not in resolved}
    if others:
        resolved |= _find_stored(lookup, others)
    return resolved


def _count_repetitions(resolved: Iterable[IssuedItem | None], limit: InputLimit) -> None:
    """Count the bytes of items that are already in the history, once per reference.

    :raises GatewayError: 400, they are too large.
    """
    sizes: dict[int, int] = {}
    for item, _ in filter(None, resolved):
        if id(item) not in sizes:
            sizes[id(item)] = len(jsontext.dumps(item))
        limit.add(sizes[id(item)])


def _find_stored(lookup: _Lookup, references: Mapping[int, str]) -> dict[int, IssuedItem | None]:
    """Return the stored items that a request refers to by id, by the position of the reference.

    Item ids are not unique, because some upstreams count from one in each answer. Among several items with an id, the
    neighbours of the reference decide. If they do not, the value is None, because the item might belong to another
    conversation. A bare reasoning item is no explicit reference: neither its own text nor its neighbours may contradict
    the stored item. Ids that are not stored are omitted.

    :param references: ids, by position in the sent items.
    :raises GatewayError: 400, they are too large.
    """
    unique, repeated = _count_sizes(lookup, references)
    latest = _load_latest(lookup, unique)
    resolved: dict[int, IssuedItem | None] = {}
    for position, item_id in references.items():
        if item_id in repeated:
            resolved[position] = _disambiguate(lookup, item_id, position)
        elif item_id in latest:
            item, upstream, snapshot, stored_at = latest[item_id]
            sent = lookup.sent_items[position]
            resolved[position] = (item, upstream) if _can_refer_to(sent, item) else None
            if not (is_reference(sent) or item_text(sent)):
                matches = _compare_neighbours(lookup, snapshot, stored_at, position)
                resolved[position] = (item, upstream) if any(matches) or not matches else None
    return resolved


def _distinct_ids(references: Mapping[int, str]) -> list[str]:
    # Look up malformed ids too, so that the time of the answer does not depend on the id.
    return list(dict.fromkeys(storable_id(item_id) or "" for item_id in references.values()))


def _select_by_ids(lookup: _Lookup, sql: str, ids: Sequence[str]) -> Iterator[Row]:
    for start in range(0, len(ids), IDS_PER_QUERY):
        batch = ids[start : start + IDS_PER_QUERY]
        statement = sql.format(alive=ALIVE, marks=placeholders(batch))
        yield from select(lookup.database, statement, *lookup.scope(), *batch)


def _count_sizes(lookup: _Lookup, references: Mapping[int, str]) -> tuple[list[str], set[str]]:
    """Count the sizes of the items with a unique id.

    :returns: the unique ids, and the ids that several items have.
    :raises GatewayError: 400, they are too large.
    """
    repeated, sizes = set(), {}
    for item_id, row, length, beginning, first, *_ in _select_by_ids(lookup, _SIZES, _distinct_ids(references)):
        sizes[item_id] = plain_size(beginning, length)
        if row != first:
            repeated.add(item_id)
    for item_id in references.values():
        if item_id not in repeated:
            lookup.limit.add(sizes.get(item_id, 0))
    return [item_id for item_id in sizes if item_id not in repeated], repeated


def _load_latest(lookup: _Lookup, ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], str | None, int, int]]:
    """Load the latest item of each id; return it with its upstream, its snapshot and its position there."""
    decode = Decoder(PAYLOAD, lookup.work)
    return {
        item_id: (decode(payload, row), upstream, snapshot, stored_at)
        for item_id, row, upstream, payload, _, snapshot, stored_at in _select_by_ids(lookup, _ITEMS, ids)
    }


def _can_refer_to(sent: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Return whether a reference, or an item without its content, does not contradict a stored item with its id."""
    return is_reference(sent) or not item_text(sent) or item_text(sent) == item_text(stored)


def _disambiguate(lookup: _Lookup, item_id: str, position: int) -> IssuedItem | None:
    """Return the stored item that a reference means, of several with the same id; None if that is uncertain."""
    ((size,),) = select(lookup.database, _SAME_ID_SIZE.format(alive=ALIVE), *lookup.scope(), item_id)
    lookup.work.add(int(size))
    rows = select(lookup.database, _SAME_ID.format(alive=ALIVE), *lookup.scope(), item_id)
    sent, decode = lookup.sent_items[position], Decoder(PAYLOAD, lookup.work)
    if item_text(sent):
        rows = [row for row in rows if _can_refer_to(sent, decode(row[2], row[0]))]
    texts = [decode.text(payload, row) for row, _, payload, *_ in rows]
    if len(set(texts)) > 1 or len(rows) > MAX_SAME_ID:
        matches = [_compare_neighbours(lookup, snapshot, stored_at, position) for *_, snapshot, stored_at in rows]
        is_match = [bool(equal) and all(equal) for equal in matches]
        texts = list(itertools.compress(texts, is_match))
        rows = list(itertools.compress(rows, is_match))
    if len(set(texts)) != 1:
        return None
    lookup.limit.add(len(texts[0]))
    return parse_object(texts[0], PAYLOAD, rows[0][0]), rows[0][1]


def _compare_neighbours(lookup: _Lookup, snapshot: int, stored_at: int, position: int) -> list[bool]:
    """Compare the neighbours of a stored item with those of a reference: True for each equal pair."""
    decode, equal = Decoder(PAYLOAD, lookup.work), []
    for neighbour_at, payload, row in select(lookup.database, _AROUND, snapshot, stored_at - 1, stored_at + 1):
        at = position + neighbour_at - stored_at
        if 0 <= at < len(lookup.sent_items):
            stored, sent = decode(payload, row), lookup.sent_items[at]
            same_id = sent.get("id") is not None and sent.get("id") == stored.get("id")
            by_id = is_reference(sent) or is_bare(sent)
            equal.append(same_id if by_id else usual_form(sent) == usual_form(stored))
    return equal
