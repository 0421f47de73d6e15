"""``/v1/responses/{id}``: reading, replaying and deleting what was stored."""

from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from floway_core.contexts import ApiKey
from floway_core.conversation import load, retention
from floway_core.conversation.records import Snapshot
from floway_core.conversation.turns import get_snapshot
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.synthesis import synthesize_events
from floway_core.web import STREAM_HEADERS, current_gateway
from floway_core.web.auth import authenticate

blueprint = Blueprint("stored", __name__, url_prefix="/v1/responses")

LARGEST_PAGE = 100


@blueprint.get("/<response_id>")
def get_response(response_id: str) -> Response:
    """The response, or with ``?stream=true`` its events, those after ``starting_after``: a sequence number of another
    replay, since a replay tells each part in one piece and has fewer events than the stream of an upstream."""
    response = load.load_response(_database(), _snapshot(response_id))
    if request.args.get("stream") != "true":
        return Response(jsontext.dumps(response), mimetype="application/json")
    after = _number("starting_after", -1, least=0)
    events = [event for number, event in enumerate(synthesize_events(response)) if number > after]
    return Response([*events, sse.DONE], headers=STREAM_HEADERS)


@blueprint.delete("/<response_id>")
def delete_response(response_id: str) -> Response:
    """Forget the response. Responses that continue it are not affected."""
    snapshot = _snapshot(response_id)
    retention.delete_response(_database(), snapshot)
    current_gateway().history_cache.forget(snapshot.conversation)
    return jsonify({"id": response_id, "object": "response", "deleted": True})


@blueprint.post("/<response_id>/cancel")
def cancel_response(response_id: str) -> Response:
    """Refused: only a background response could be cancelled, and there are none."""
    _snapshot(response_id)
    raise GatewayError(400, "Cannot cancel a synchronous response.", param="response_id")


@blueprint.get("/<response_id>/input_items")
def list_input_items(response_id: str) -> Response:
    """What the model saw, in pages: ``limit`` (1 to 100), ``order`` (``desc`` or ``asc``), ``after`` (an item's id)."""
    given = _with_distinct_ids(load.load_input_items(_database(), _snapshot(response_id)))
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise GatewayError(400, "Invalid value for 'order': expected 'asc' or 'desc'.", param="order")
    if order == "desc":
        given.reverse()
    page = _after(given, request.args.get("after"))
    limit = _number("limit", 20, least=1, most=LARGEST_PAGE)
    shown = page[:limit]
    return jsonify(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(page) > limit,
        }
    )


def _with_distinct_ids(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, oldest first, each with an id that no other has.

    Clients go on after the id of the last item of a page, so an id has to stand for a position. But ids that upstreams
    and clients make up repeat. The first item of an id keeps it; those after it get a number behind theirs, the same in
    every page.
    """
    taken = {item["id"] for item in given}
    numbers: dict[str, int] = {}
    listed = []
    for item in given:
        item_id = item["id"]
        number = numbers.get(item_id, 0) + 1
        while number > 1 and f"{item_id}-{number}" in taken:
            number += 1
        numbers[item_id] = number
        listed.append(item if number == 1 else {**item, "id": f"{item_id}-{number}"})
    return listed


def _after(given: list[dict[str, Any]], item_id: str | None) -> list[dict[str, Any]]:
    if item_id is None:
        return given
    for place, item in enumerate(given, 1):
        if item["id"] == item_id:
            return given[place:]
    raise GatewayError(400, f"Item with id '{item_id}' not found.", param="after")


def _number(name: str, default: int, least: int, most: int = 2**31) -> int:
    given = request.args.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 12 and least <= int(given) <= most):
        wanted = f"from {least}" + (f" to {most}" if most == LARGEST_PAGE else "")
        raise GatewayError(400, f"Invalid value for '{name}': expected a whole number {wanted}.", param=name)
    return int(given)


def _database():
    return current_gateway().services.database


def _snapshot(response_id: str) -> Snapshot:
    gateway = current_gateway()
    key: ApiKey = authenticate(gateway, request)
    g.request_log.key = key.name
    return get_snapshot(gateway.services.database, key.id, response_id, gateway.settings.retention_days)
