"""``/v1/responses/{id}``: reading, replaying and deleting stored responses."""

import peewee
from flask import Blueprint, Response, jsonify, request

from floway_core.conversation import load, retention
from floway_core.conversation.records import Snapshot
from floway_core.conversation.turns import get_snapshot
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.response_writer import synthesize_events
from floway_core.web import STREAM_HEADERS, current_gateway
from floway_core.web.auth import authenticate_request
from floway_core.web.pages import integer_argument, list_page

blueprint = Blueprint("stored", __name__, url_prefix="/v1/responses")


@blueprint.get("/<response_id>")
def get_response(response_id: str) -> Response:
    """Return the response, or with ``?stream=true`` replay its events.

    ``starting_after`` is a sequence number of an earlier replay. A replay sends each part in one delta, so it has fewer
    events than the original stream and other sequence numbers.
    """
    response = load.load_response(_database(), _snapshot(response_id))
    if request.args.get("stream") != "true":
        return Response(jsontext.dumps(response), mimetype="application/json")
    after = integer_argument("starting_after", -1, minimum=0)
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
    return list_page(load.load_input_items(_database(), _snapshot(response_id)))


def _database() -> peewee.Database:
    return current_gateway().services.database


def _snapshot(response_id: str) -> Snapshot:
    """Authenticate the request and return the snapshot of a response.

    :raises GatewayError: 401; 404, the key has no such response.
    """
    gateway, key = current_gateway(), authenticate_request()
    return get_snapshot(gateway.services.database, key.id, response_id, gateway.settings.retention_days)
