"""``/v1/responses/{id}``: read, replay, cancel and delete stored responses."""

import itertools

import peewee
from flask import Blueprint, Response, jsonify, request

from floway_core.contexts import ApiKey
from floway_core.conversation import load, retention
from floway_core.conversation.background import COMPLETED, INCOMPLETE
from floway_core.conversation.background import delete as delete_background
from floway_core.conversation.records import Snapshot
from floway_core.conversation.turns import get_snapshot
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse
from floway_core.protocol.synthesis import synthesize_events
from floway_core.web import STREAM_HEADERS, background, current_gateway, current_request, read_limit
from floway_core.web.auth import authenticate
from floway_core.web.pages import integer_argument, list_page

COMPLETE = (COMPLETED, INCOMPLETE)
"""The statuses of responses that are stored as snapshots."""

blueprint = Blueprint("stored", __name__, url_prefix="/v1/responses")


@blueprint.get("/<response_id>")
def get_response(response_id: str) -> Response:
    """Return the response, or its events with ``?stream=true``.

    The events of a background response are those of the original stream, also while it runs; ``starting_after`` is the
    sequence number of one of them. For other responses, and an hour after the end, they are generated from the
    response: each part in one delta, with new sequence numbers.
    """
    key = authenticate()
    is_stream = request.args.get("stream") == "true"
    after = integer_argument("starting_after", -1, minimum=0) if is_stream else -1
    stored = background.find_background(key, response_id, read_limit())
    if is_stream and stored and stored.has_events:
        return background.follow(key, stored, after)
    if stored and stored.status not in COMPLETE:
        if is_stream and stored.is_running:
            message = "This response can only be followed if it was created with 'stream': true."
            raise GatewayError(400, message, param="stream")
        response = dict(stored.response)
    else:
        response = load.load_response(_database(), _snapshot(key, response_id), read_limit())
    if not is_stream:
        return Response(jsontext.dumps(response), mimetype="application/json")
    events, memory = [], current_request().memory
    for event in itertools.islice(synthesize_events(response), after + 1, None):
        memory.add(len(event))
        events.append(event)
    content = b"".join([*events, sse.DONE])  # in one piece: reading it slowly takes no thread
    return Response(content, headers=STREAM_HEADERS)


@blueprint.delete("/<response_id>")
def delete_response(response_id: str) -> Response:
    """Delete the response. Responses that continue it are not affected. If it is still running, it is cancelled."""
    key = authenticate()
    if stored := background.find_background(key, response_id, read_limit()):
        stored = background.cancel(key, stored)
        delete_background(_database(), stored)
    if stored is None or stored.status in COMPLETE:
        snapshot = _snapshot(key, response_id)
        retention.delete_response(_database(), snapshot)
        current_gateway().history_cache.forget(snapshot.conversation)
    return jsonify({"id": response_id, "object": "response", "deleted": True})


@blueprint.post("/<response_id>/cancel")
def cancel_response(response_id: str) -> Response:
    """Cancel a background response. If it has ended, it is returned unchanged."""
    key = authenticate()
    stored = background.find_background(key, response_id, read_limit())
    if stored is None:
        _snapshot(key, response_id)
        raise GatewayError(400, "Cannot cancel a synchronous response.", param="response_id")
    cancelled = background.cancel(key, stored)
    is_complete = cancelled.status in COMPLETE
    if is_complete:
        response = load.load_response(_database(), _snapshot(key, response_id), read_limit())
    else:
        response = dict(cancelled.response)
    return Response(jsontext.dumps(response), mimetype="application/json")


@blueprint.get("/<response_id>/input_items")
def list_input_items(response_id: str) -> Response:
    """List the input items of the model, in pages.

    ``limit`` is a number of items from 1 to 100, ``order`` is ``desc`` or ``asc``, ``after`` is the id of an item.
    """
    return list_page(load.load_input_items(_database(), _snapshot(authenticate(), response_id), read_limit()))


def _database() -> peewee.Database:
    return current_gateway().services.database


def _snapshot(key: ApiKey, response_id: str) -> Snapshot:
    """Return the snapshot of a response.

    :raises GatewayError: 404, the key has no such response.
    """
    gateway = current_gateway()
    return get_snapshot(gateway.services.database, key.id, response_id, gateway.settings.retention_days)
