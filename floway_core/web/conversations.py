"""``/v1/conversations``: conversations with an id, and their items."""

from collections.abc import Mapping
from typing import Any

import peewee
from flask import Blueprint, Response, jsonify

from floway_core.contexts import ApiKey
from floway_core.conversation import conversations, editing, retention
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.load import expiry_cutoff
from floway_core.conversation.quota import check_quota
from floway_core.conversation.records import Conversation
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.request_schema import CONVERSATION_FIELDS, find_field_fault, find_item_fault
from floway_core.storage.db import transaction
from floway_core.web import current_gateway, current_request, read_limit
from floway_core.web.auth import authenticate
from floway_core.web.body import read_object
from floway_core.web.pages import list_object, list_page

blueprint = Blueprint("conversations", __name__, url_prefix="/v1/conversations")


@blueprint.post("")
def create_conversation() -> Response:
    """Create a conversation, with or without items."""
    key = authenticate()
    body = _read_body()
    _check_quota(key)
    with transaction(_database()):
        conversation = conversations.create(_database(), key.id, body.get("metadata") or {})
        if items := body.get("items"):
            _add_items(key, conversation, items)
    return _json(conversation)


@blueprint.get("/<conversation_id>")
def get_conversation(conversation_id: str) -> Response:
    """Return a conversation without its items."""
    return _json(_find(authenticate(), conversation_id))


@blueprint.post("/<conversation_id>")
def update_conversation(conversation_id: str) -> Response:
    """Replace the metadata of a conversation."""
    key = authenticate()
    body = _read_body("metadata")
    conversation = _find(key, conversation_id)
    conversations.replace_metadata(_database(), conversation, body["metadata"])
    return _json(_find(key, conversation_id))


@blueprint.delete("/<conversation_id>")
def delete_conversation(conversation_id: str) -> Response:
    """Delete a conversation. Its responses can still be read and continued by their ids."""
    conversation = _find(authenticate(), conversation_id)
    retention.delete_conversation(_database(), conversation)
    current_gateway().history_cache.forget(conversation.conversation)
    return jsonify({"id": conversation.id, "object": "conversation.deleted", "deleted": True})


@blueprint.get("/<conversation_id>/items")
def list_items(conversation_id: str) -> Response:
    """List the items of a conversation, in pages."""
    return list_page(editing.list_items(_database(), _find(authenticate(), conversation_id), read_limit()))


@blueprint.post("/<conversation_id>/items")
def create_items(conversation_id: str) -> Response:
    """Add items at the end of a conversation."""
    key = authenticate()
    body = _read_body("items")
    conversation = _find(key, conversation_id)
    _check_quota(key)
    return list_object(_add_items(key, conversation, body["items"]))


@blueprint.get("/<conversation_id>/items/<item_id>")
def get_item(conversation_id: str, item_id: str) -> Response:
    """Return an item of a conversation."""
    conversation = _find(authenticate(), conversation_id)
    limit = read_limit()
    return jsonify(editing.find_item(_database(), conversation, item_id, limit).listed(limit))


@blueprint.delete("/<conversation_id>/items/<item_id>")
def delete_item(conversation_id: str, item_id: str) -> Response:
    """Remove an item from a conversation."""
    key = authenticate()
    conversation = _find(key, conversation_id)
    editing.delete_item(_database(), key.id, conversation, item_id, read_limit())
    current_gateway().history_cache.forget(conversation.conversation)
    return _json(conversation)


# --------------------------------------------------------------------------------------------------------------------
def _read_body(*required: str) -> dict[str, Any]:
    """Return the JSON object in the body of the current request; an empty one if there is no body.

    :param required: fields that it must have.
    :raises GatewayError: 400, a field is missing or ill-typed; or as ``read_object``.
    """
    request = current_request()
    has_body = request.content_length or "transfer-encoding" in request.headers
    body = read_object(request, request.gateway.settings.max_body_bytes).content if has_body else {}
    missing = next((name for name in required if body.get(name) is None), None)
    if missing:
        message = f"Missing required parameter: '{missing}'."
        raise GatewayError(400, message, param=missing, code="missing_required_parameter")
    fault = find_field_fault(body, CONVERSATION_FIELDS)
    for position, item in enumerate(body.get("items") or () if fault is None else ()):
        fault = fault or find_item_fault(item, f"items[{position}]")
    if fault:
        raise GatewayError(400, fault.message, param=fault.param, code=fault.code)
    return body


def _find(key: ApiKey, conversation_id: str) -> Conversation:
    """Return a conversation, and record its use.

    :raises GatewayError: 404, the key has none with this id.
    """
    conversation = conversations.find(_database(), key.id, conversation_id, _oldest())
    retention.mark_used_if_due(_database(), conversation)
    return conversation


def _add_items(key: ApiKey, conversation: Conversation, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    limit = InputLimit(current_gateway().settings.input_limit, current_request().memory.add)
    try:
        return editing.add_items(_database(), key.id, conversation, items, _oldest(), limit)
    except GatewayError as error:
        error.param = "items" if error.param == "input" else error.param  # "input" is the name in requests to a model
        raise


def _check_quota(key: ApiKey) -> None:
    """:raises GatewayError: 507, the key may not store more."""
    if limit := key.max_stored_bytes or current_gateway().settings.max_stored_bytes:
        check_quota(_database(), key.id, limit)


def _json(conversation: Conversation) -> Response:
    content: Mapping[str, Any] = {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }
    return Response(jsontext.dumps(content), mimetype="application/json")


def _database() -> peewee.Database:
    return current_gateway().services.database


def _oldest() -> int:
    return expiry_cutoff(current_gateway().settings.retention_days)
