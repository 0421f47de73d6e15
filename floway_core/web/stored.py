"""``/v1/responses/{id}``: reading, replaying and deleting stored responses."""

from typing import Any

import peewee
from flask import Blueprint, Response, g, jsonify, request

from floway_core.contexts import ApiKey
from floway_core.conversation import load, retention
from floway_core.conversation.records import Snapshot
from floway_core.conversation.turns import get_snapshot
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.response_writer import synthesize_events
from floway_core.web import STREAM_HEADERS, current_gateway
from floway_core.web.auth import authenticate

blueprint = Blueprint("stored", __name__, url_prefix="/v1/responses")

MAX_PAGE_ITEMS = 100


@blueprint.get("/<response_id>")
def get_response(response_id: str) -> Response:
    """Return the response, or with ``?stream=true`` replay its events.

    ``starting_after`` is a sequence number of an earlier replay. A replay sends each part in one delta, so it has fewer
    events than the original stream and other sequence numbers.
    """
    response = load.load_response(_database(), _snapshot(response_id))
    if request.args.get("stream") != "true":
        return Response(jsontext.dumps(response), mimetype="application/json")
    after = _integer_argument("starting_after", -1, minimum=0)
    events = [event for number, event in enumerate(synthesize_events(response)) if number > after]
    return Response([*events, sse.DONE], headers=STREAM_HEADERS)


@blueprint.delete("/<response_id>")
def delete_response(response_id: str) -> Response:
    """Delete the response. Responses that continue it are not affected."""
    snapshot = _snapshot(response_id)
    retention.delete_response(_database(), snapshot)
    current_gateway().history_cache.forget(snapshot.conversation)
    return jsonify({"id": response_id, "object": "response", "deleted": True})


@blueprint.post("/<response_id>/cancel")
def cancel_response(response_id: str) -> Response:
    """Refuse: only background responses can be cancelled, and Floway has none."""
    _snapshot(response_id)
    raise GatewayError(400, "Cannot cancel a synchronous response.", param="response_id")


@blueprint.get("/<response_id>/input_items")
def list_input_items(response_id: str) -> Response:
    """List the items that the model got, in pages.

    ``limit`` is a number of items from 1 to 100, ``order`` is ``desc`` or ``asc``, ``after`` is the id of an item.
    """
    items = _with_distinct_ids(load.load_input_items(_database(), _snapshot(response_id)))
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise GatewayError(400, "Invalid value for 'order': expected 'asc' or 'desc'.", param="order")
    if order == "desc":
        items.reverse()
    remaining = _items_after(items, request.args.get("after"))
    limit = _integer_argument("limit", 20, minimum=1, maximum=MAX_PAGE_ITEMS)
    page = remaining[:limit]
    return jsonify(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(remaining) > limit,
        }
    )


def _with_distinct_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items with distinct ids.

    A client requests the next page with the id of the last item, so an id must identify a position. But upstreams and
    clients repeat ids. The first item with an id keeps it; later ones get a number appended, the same in every page.

    :param items: all of them, oldest first.
    """
    ids = {item["id"] for item in items}
    numbers: dict[str, int] = {}
    distinct = []
    for item in items:
        item_id = item["id"]
        number = numbers.get(item_id, 0) + 1
        while number > 1 and f"{item_id}-{number}" in ids:
            number += 1
        numbers[item_id] = number
        distinct.append(item if number == 1 else {**item, "id": f"{item_id}-{number}"})
    return distinct


def _items_after(items: list[dict[str, Any]], item_id: str | None) -> list[dict[str, Any]]:
    if item_id is None:
        return items
    for position, item in enumerate(items, 1):
        if item["id"] == item_id:
            return items[position:]
    raise GatewayError(400, f"Item with id '{item_id}' not found.", param="after")


def _integer_argument(name: str, default: int, minimum: int, maximum: int = 2**31) -> int:
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


def _database() -> peewee.Database:
    return current_gateway().services.database


def _snapshot(response_id: str) -> Snapshot:
    """Authenticate the request and return the snapshot of a response.

    :raises GatewayError: 401; 404, the key has no such response.
    """
    gateway = current_gateway()
    key: ApiKey = authenticate(gateway, request, g.dialect)
    g.request_log.key = key.name
    return get_snapshot(gateway.services.database, key.id, response_id, gateway.settings.retention_days)
