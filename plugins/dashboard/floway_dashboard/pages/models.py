"""The models that clients can use, and the aliases that stand for them."""

from flask import Blueprint, Response, request, url_for

from floway_core.administration import aliases, models
from floway_core.administration.aliases import AliasRow, Overrides
from floway_core.errors import GatewayError
from floway_core.web import current_gateway
from floway_dashboard.forms import Form
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.pagination import paginate
from floway_dashboard.state import current_services

blueprint = Blueprint("models", __name__, url_prefix="/models")

INDEX = "dashboard.models.index"
# An alias has no id, and its name may contain any character, so it is sent in the query or a form, not in the path.


@blueprint.get("")
def index() -> Response:
    """Show models and aliases."""
    offer = models.list_models(current_gateway())
    rows = aliases.all_rows(current_services().database)
    names = {row.name for row in rows}
    return page(
        "dashboard/models.html",
        title="Models",
        part=paginate([model for model in offer.models if model.id not in names]),
        failed=offer.failed,
        aliases=rows,
        served={model.id for model in offer.models},
        format_targets=aliases.format_targets,
    )


@blueprint.get("/alias")
def alias() -> Response:
    """Show the form for an alias: the one that ``name`` names, or a new one."""
    name = request.args.get("name")
    return _show_alias(Form(), aliases.find(current_services().database, name) if name else None)


@blueprint.post("/alias")
def create() -> Response:
    """Create an alias. An existing one is not replaced."""
    form = Form.sent()
    name = form.text("name")
    if any(row.name == name for row in aliases.all_rows(current_services().database)):
        form.errors["name"] = f"There is already an alias named {name!r}."
    return _put(form, name, None)


@blueprint.post("/alias/change")
def change() -> Response:
    """Change an alias."""
    form = Form.sent()
    return _put(form, form.text("name"), aliases.find(current_services().database, form.text("name")))


def _put(form: Form, name: str, row: AliasRow | None) -> Response:
    database = current_services().database
    overrides = Overrides(*(form.text(field) or None for field in ("effort", "verbosity", "service_tier")))
    if not form.errors:
        try:
            aliases.put(database, name, aliases.parse_targets(database, form.lines("targets")), overrides)
        except GatewayError as error:
            form.note(error)
    if form.errors:
        return _show_alias(form, row, 400)
    return redirect_with_notice(f"The alias {name} is {'changed' if row else 'created'}.", INDEX)


def _show_alias(form: Form, row: AliasRow | None, status: int = 200) -> Response:
    title = f"The alias {row.name}" if row else "Create an alias"
    targets = "\n".join(aliases.format_targets(row)) if row else ""
    return page("dashboard/alias.html", title=title, status=status, form=form, row=row, targets=targets)


@blueprint.post("/alias/remove")
def remove() -> Response:
    """Remove an alias, after a confirmation."""
    database, name = current_services().database, Form.sent().text("name")
    aliases.find(database, name)
    if not is_confirmed():
        return ask_confirmation(
            f"Remove the alias {name}?",
            consequence="Clients that request it get an error. Its models are not affected.",
            action="Remove",
            back=url_for(INDEX),
        )
    aliases.remove(database, name)
    return redirect_with_notice(f"The alias {name} is removed.", INDEX)
