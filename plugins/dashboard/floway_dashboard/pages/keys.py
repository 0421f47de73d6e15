"""API keys: list, create, change, revoke and delete them, and show their usage."""

import datetime
import time

from flask import Blueprint, Response, request, url_for

from floway_core.administration import groups, keys, usage
from floway_core.administration.keys import KeyRow
from floway_core.errors import GatewayError
from floway_core.storage.upstreams import all_rows as all_upstreams
from floway_dashboard import figures, key_form
from floway_dashboard.forms import Form
from floway_dashboard.key_form import read_options
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.pagination import paginate
from floway_dashboard.state import current_services

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

SHOW = "dashboard.keys.show"
DAYS = 30
"""Days of usage that a key shows."""


@blueprint.get("")
def index() -> Response:
    """Show the keys, the newest first; with ``q``, those whose name or ending contains it."""
    query = request.args.get("q", "").strip()
    rows = keys.all_rows(current_services().database)[::-1]
    matches = [row for row in rows if query.casefold() in row.name.casefold() or query in row.hint]
    return page(
        "dashboard/keys.html",
        title="API keys",
        part=paginate(matches),
        query=query,
        count=len(rows),
        now=time.time(),
        describe_limits=key_form.describe_limits,
    )


def find(key_id: str) -> KeyRow:
    """Return the key with this id.

    :raises GatewayError: 404, there is none.
    """
    row = next((row for row in keys.all_rows(current_services().database) if row.id == key_id), None)
    if row is None:
        raise GatewayError(404, "There is no such API key. It may have been deleted.")
    return row


# ------------------------------------------------------------------------------------------------------------- create
@blueprint.get("/new")
def new() -> Response:
    """Show the form for a key."""
    return _show_new(Form())


@blueprint.post("")
def create() -> Response:
    """Create a key, and show it once."""
    database, form = current_services().database, Form.sent()
    options, name, secret = read_options(form, all_upstreams(database)), form.text("name"), ""
    if not form.errors:
        try:
            secret = keys.create(database, name, options)
        except GatewayError as error:
            form.note(error)
    if form.errors:
        return _show_new(form, 400)
    row = keys.find(database, name)
    return page("dashboard/key_created.html", title=f"The key {name}", status=201, row=row, secret=secret)


def _show_new(form: Form, status: int = 200) -> Response:
    upstreams = all_upstreams(current_services().database)
    return page("dashboard/key_new.html", title="Create an API key", status=status, form=form, **_choices(upstreams))


def _choices(upstreams: object) -> dict[str, object]:
    return {
        "upstreams": upstreams,
        "groups": [row.name for row in groups.all_rows(current_services().database)],
        "limits": key_form.LIMITS,
        "upstream_box": key_form.UPSTREAM_BOX,
        "format_time": key_form.format_time,
    }


# --------------------------------------------------------------------------------------------------------------- show
@blueprint.get("/<key_id>")
def show(key_id: str) -> Response:
    """Show a key: its options and its usage."""
    return _show(find(key_id), Form())


def _show(row: KeyRow, form: Form, status: int = 200) -> Response:
    database = current_services().database
    first = figures.today() - datetime.timedelta(days=DAYS - 1)
    used = usage.read(database, ["model"], first, only={"key": row.name})
    used.sort(key=lambda each: -each.requests)
    return page(
        "dashboard/key.html",
        title=row.name,
        status=status,
        form=form,
        row=row,
        usage=used,
        total=figures.add_up("", used).usage,
        days=DAYS,
        now=time.time(),
        terms=key_form.describe_limits(row),
        **_choices(all_upstreams(database)),
    )


# ------------------------------------------------------------------------------------------------------------ changes
@blueprint.post("/<key_id>")
def change(key_id: str) -> Response:
    """Change its options."""
    database, row, form = current_services().database, find(key_id), Form.sent()
    options = read_options(form, all_upstreams(database), row)
    if form.text("expires_at") == key_form.format_time(row.expires_at):
        del options["expires_at"]  # the form shows it to the minute, and it may have passed
    if not form.errors:
        try:
            keys.change(database, row.name, options)
        except GatewayError as error:
            form.note(error)
    if form.errors:
        return _show(row, form, 400)
    return redirect_with_notice(f"The key {row.name} is changed.", SHOW, key_id=key_id)


@blueprint.post("/<key_id>/revoke")
def revoke(key_id: str) -> Response:
    """Revoke a key, after a confirmation."""
    row = find(key_id)
    if not is_confirmed():
        return ask_confirmation(
            f"Revoke the key {row.name}?",
            consequence="Its clients are refused from now on. This cannot be undone; its conversations stay.",
            action="Revoke",
            back=url_for(SHOW, key_id=key_id),
        )
    keys.revoke(current_services().database, row.name)
    return redirect_with_notice(f"The key {row.name} is revoked.", SHOW, key_id=key_id)


@blueprint.post("/<key_id>/delete")
def delete(key_id: str) -> Response:
    """Delete a key with its conversations, after a confirmation."""
    row = find(key_id)
    if not is_confirmed():
        return ask_confirmation(
            f"Delete the key {row.name}?",
            consequence="It is refused from now on, and all conversations that it has stored are deleted. "
            "This cannot be undone; its usage stays in the statistics.",
            action="Delete",
            back=url_for(SHOW, key_id=key_id),
        )
    keys.delete(current_services().database, row.name)
    return redirect_with_notice(f"The key {row.name} and its conversations are deleted.", "dashboard.keys.index")
