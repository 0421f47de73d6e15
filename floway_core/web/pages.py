"""Pages of lists of stored items, and arguments of the query string."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, jsonify, request

from floway_core.conversation.load import StoredItem
from floway_core.errors import GatewayError
from floway_core.web import read_limit

MAX_PAGE_ITEMS = 100


def list_page(items: Sequence[StoredItem]) -> Response:
    """Return the page of a list that the query string selects.

    ``limit`` is a number of items from 1 to 100, ``order`` is ``desc`` or ``asc``, ``after`` is the id of an item.

    :param items: all of them, the oldest first.
    :raises GatewayError: 400, an argument is invalid.
    """
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise GatewayError(400, "Invalid value for 'order': expected 'asc' or 'desc'.", param="order")
    ordered = items if order == "asc" else items[::-1]
    remaining = _items_after(ordered, request.args.get("after"))
    limit = integer_argument("limit", 20, minimum=1, maximum=MAX_PAGE_ITEMS)
    counted = read_limit()
    return list_object([item.listed(counted) for item in remaining[:limit]], has_more=len(remaining) > limit)


def list_object(items: Sequence[Mapping[str, Any]], *, has_more: bool = False) -> Response:
    """Return a list object.

    :param items: as the API lists them.
    :param has_more: whether more items follow.
    """
    return jsonify(
        {
            "object": "list",
            "data": items,
            "first_id": items[0]["id"] if items else None,
            "last_id": items[-1]["id"] if items else None,
            "has_more": has_more,
        }
    )


def _items_after(items: Sequence[StoredItem], item_id: str | None) -> Sequence[StoredItem]:
    if item_id is None:
        return items
    for position, item in enumerate(items, 1):
        if item.id == item_id:
            return items[position:]
    raise GatewayError(400, f"Item with id '{item_id}' not found.", param="after")


def integer_argument(name: str, default: int, minimum: int, maximum: int = 2**31) -> int:
    """Return an argument of the query string.

    :raises GatewayError: 400, it is not an integer from ``minimum`` to ``maximum``.
    """
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and minimum <= int(text) <= maximum):
        bounds = f"from {minimum}" + (f" to {maximum}" if maximum == MAX_PAGE_ITEMS else "")
        raise GatewayError(400, f"Invalid value for '{name}': expected a whole number {bounds}.", param=name)
    return int(text)
