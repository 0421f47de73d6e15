"""Groups of API keys, which share a budget."""

from flask import Blueprint, Response, url_for

from floway_core.administration import groups
from floway_core.administration.groups import GroupOptions, GroupRow
from floway_core.errors import GatewayError
from floway_dashboard.forms import Form
from floway_dashboard.key_form import describe_budget, read_budget
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.state import current_services

blueprint = Blueprint("groups", __name__, url_prefix="/groups")

INDEX = "dashboard.groups.index"


@blueprint.get("")
def index() -> Response:
    """Show the groups."""
    rows = groups.all_rows(current_services().database)
    return page("dashboard/groups.html", title="Groups of keys", groups=rows, describe_budget=describe_budget)


@blueprint.get("/new")
def new() -> Response:
    """Show the form for a group."""
    return _show(Form(), None)


@blueprint.post("")
def create() -> Response:
    """Create a group."""
    return _put(Form.sent(), None)


@blueprint.get("/<group_id>")
def show(group_id: str) -> Response:
    """Show a group, and what it has spent."""
    return _show(Form(), _find(group_id))


@blueprint.post("/<group_id>")
def change(group_id: str) -> Response:
    """Change its name and its budget."""
    return _put(Form.sent(), _find(group_id))


def _find(group_id: str) -> GroupRow:
    """:raises GatewayError: 404, there is none with this id."""
    row = next((row for row in groups.all_rows(current_services().database) if row.id == group_id), None)
    if row is None:
        raise GatewayError(404, "There is no such group. It may have been removed.")
    return row


def _put(form: Form, row: GroupRow | None) -> Response:
    database, name, budget = current_services().database, form.text("name"), read_budget(form)
    if not form.errors:
        try:
            if row is None:
                groups.add(database, name, budget)
            else:
                groups.change(database, row.name, GroupOptions(name=name, **budget))
        except GatewayError as error:
            form.note(error)
    if form.errors:
        return _show(form, row, 400)
    return redirect_with_notice(f"The group {name} is {'changed' if row else 'created'}.", INDEX)


def _show(form: Form, row: GroupRow | None, status: int = 200) -> Response:
    title = f"The group {row.name}" if row else "Create a group"
    return page("dashboard/group.html", title=title, status=status, form=form, row=row)


@blueprint.post("/<group_id>/remove")
def remove(group_id: str) -> Response:
    """Remove it, after a confirmation. It may have no keys."""
    name = _find(group_id).name
    if not is_confirmed():
        return ask_confirmation(
            f"Remove the group {name}?",
            consequence="Its budget and its spending are deleted. A group that has keys cannot be removed.",
            action="Remove",
            back=url_for("dashboard.groups.show", group_id=group_id),
        )
    groups.remove(current_services().database, name)
    return redirect_with_notice(f"The group {name} is removed.", INDEX)
