"""The upstreams: their states and quotas, their order, their connections, and their removal."""

from typing import Any

from flask import Blueprint, Response, request, url_for

from floway_core.administration import upstreams
from floway_core.administration.upstreams import UpstreamState
from floway_core.errors import GatewayError
from floway_core.provider import Problem, Provider
from floway_core.storage.upstreams import all_rows
from floway_core.web import current_gateway
from floway_dashboard.connection_form import list_fields, read_changed_fields
from floway_dashboard.forms import Form
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.state import current_services

blueprint = Blueprint("upstreams", __name__, url_prefix="/upstreams")

SHOW = "dashboard.upstreams.show"


@blueprint.get("")
def index() -> Response:
    """Show all upstreams, in the order in which they are tried."""
    gateway = current_gateway()
    states = upstreams.list_states(gateway)
    quotas = {state.upstream.id: upstreams.read_quotas(gateway, state.upstream) for state in states}
    return page("dashboard/upstreams.html", title="Upstreams", states=states, quotas=quotas)


@blueprint.get("/<upstream_id>")
def show(upstream_id: str) -> Response:
    """Show one upstream."""
    return _show(find(upstream_id), Form())


def find(upstream_id: str) -> UpstreamState:
    """Return the upstream with this id.

    :raises GatewayError: 404, there is none.
    """
    row = next((row for row in all_rows(current_services().database) if row.id == upstream_id), None)
    if row is None:
        raise GatewayError(404, "There is no such upstream. It may have been removed.")
    return upstreams.find_state(current_gateway(), row.name)


def _show(state: UpstreamState, form: Form, status: int = 200, failure: Problem | None = None) -> Response:
    """Return the page of an upstream.

    :param form: the submitted form, if it has errors.
    :param failure: of the test that was just made.
    """
    provider = _provider(state)
    return page(
        "dashboard/upstream.html",
        title=state.upstream.name,
        status=status,
        form=form,
        state=state,
        count=len(all_rows(current_services().database)),
        quotas=upstreams.read_quotas(current_gateway(), state.upstream),
        fields=list_fields(provider, state),
        signs_in=provider is not None and provider.signs_in,
        failure=failure,
    )


def _provider(state: UpstreamState) -> Provider | None:
    return current_gateway().providers.by_kind.get(state.upstream.kind)


# ------------------------------------------------------------------------------------------------------------ changes
@blueprint.post("/<upstream_id>/test")
def test(upstream_id: str) -> Response:
    """Test an upstream: request its models now."""
    state = find(upstream_id)
    try:
        models = upstreams.test(current_gateway(), state.upstream.name)
    except GatewayError as error:
        return _show(find(upstream_id), Form(), failure=upstreams.explain(current_gateway(), state.upstream, error))
    sentence = f"{state.upstream.name} answers, and serves {len(models)} models."
    return redirect_with_notice(sentence, SHOW, upstream_id=upstream_id)


@blueprint.post("/<upstream_id>/enable")
def enable(upstream_id: str) -> Response:
    """Enable an upstream."""
    return _change(upstream_id, "is enabled", enabled=True)


@blueprint.post("/<upstream_id>/disable")
def disable(upstream_id: str) -> Response:
    """Disable an upstream."""
    return _change(upstream_id, "is disabled", enabled=False)


@blueprint.post("/<upstream_id>/move")
def move(upstream_id: str) -> Response:
    """Move it by one place in the order: ``direction`` is up or down."""
    state = find(upstream_id)
    place = state.place + (1 if request.form.get("direction") == "down" else -1)
    upstreams.change(current_gateway(), state.upstream.name, {}, place=max(1, place))
    sentence = f"{state.upstream.name} is at place {find(upstream_id).place}."
    return redirect_with_notice(sentence, "dashboard.upstreams.index")


def _change(upstream_id: str, result: str, **changes: Any) -> Response:
    name = find(upstream_id).upstream.name
    upstreams.change(current_gateway(), name, {}, **changes)
    return redirect_with_notice(f"{name} {result}.", SHOW, upstream_id=upstream_id)


@blueprint.post("/<upstream_id>")
def change(upstream_id: str) -> Response:
    """Change the name, the prefix, the place and the connection of an upstream."""
    state, form = find(upstream_id), Form.sent()
    place = form.number("place")
    if not form.errors:
        try:
            upstreams.change(
                current_gateway(),
                state.upstream.name,
                read_changed_fields(_provider(state), form),
                new_name=form.text("name"),
                prefix=form.text("prefix"),
                place=place if place != state.place else None,
            )
        except GatewayError as error:
            form.note(error)
    if form.errors:
        return _show(state, form, 400)
    return redirect_with_notice(f"{form.text('name')} is changed.", SHOW, upstream_id=upstream_id)


@blueprint.post("/<upstream_id>/remove")
def remove(upstream_id: str) -> Response:
    """Remove it with its credentials, after a confirmation."""
    name = find(upstream_id).upstream.name
    if not is_confirmed():
        return ask_confirmation(
            f"Remove the upstream {name}?",
            consequence="The credentials stored for it are deleted. Keys and aliases that name it no longer use it.",
            action="Remove",
            back=url_for(SHOW, upstream_id=upstream_id),
        )
    upstreams.remove(current_services().database, name)
    return redirect_with_notice(f"The upstream {name} is removed.", "dashboard.upstreams.index")
