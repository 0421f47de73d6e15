"""The stored conversations of an API key: ids, turns and sizes, but no contents."""

from flask import Blueprint, Response, request, url_for

from floway_core.administration import conversations, keys
from floway_core.web import current_gateway
from floway_dashboard.forms import Form
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.pages.keys import find
from floway_dashboard.pagination import paginate
from floway_dashboard.state import current_services

blueprint = Blueprint("conversations", __name__, url_prefix="/conversations")

LIST = "dashboard.conversations.of_key"


@blueprint.get("")
def index() -> Response:
    """Show the keys, to choose one."""
    rows = keys.all_rows(current_services().database)
    used = sorted(rows, key=lambda row: (row.last_used_at or 0, row.created_at), reverse=True)
    return page("dashboard/conversation_keys.html", title="Conversations", part=paginate(used))


@blueprint.get("/<key_id>")
def of_key(key_id: str) -> Response:
    """Show the conversations of a key, the newest first, from the position ``before`` on."""
    database, row = current_services().database, find(key_id)
    text = request.args.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    return page(
        "dashboard/conversations.html",
        title=f"Conversations of {row.name}",
        row=row,
        part=conversations.list_page(database, row.name, before),
        is_first=before is None,
        stored_bytes=conversations.stored_bytes(database, row.name),
    )


@blueprint.post("/<key_id>/delete")
def delete(key_id: str) -> Response:
    """Delete one conversation, after a confirmation."""
    row, conversation_id = find(key_id), Form.sent().text("conversation")
    if not is_confirmed():
        return ask_confirmation(
            f"Delete the conversation {conversation_id}?",
            consequence="All its responses and forks are deleted. Its client can no longer continue it.",
            action="Delete",
            back=url_for(LIST, key_id=key_id),
        )
    conversations.delete(current_gateway(), row.name, conversation_id)
    return redirect_with_notice(f"The conversation {conversation_id} is deleted.", LIST, key_id=key_id)
