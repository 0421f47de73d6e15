"""Adding an upstream by the form of its provider, and signing in to one."""

from flask import Blueprint, Response, request, url_for

from floway_core.administration import sign_in as signing_in
from floway_core.administration import upstreams
from floway_core.administration.sign_in import BegunSignIn
from floway_core.errors import GatewayError
from floway_core.provider import Provider
from floway_core.web import current_gateway
from floway_dashboard.connection_form import list_new_fields, read_new_fields
from floway_dashboard.forms import Form
from floway_dashboard.page import page, redirect_with_notice
from floway_dashboard.pages.upstreams import SHOW, find

blueprint = Blueprint("new_upstream", __name__, url_prefix="/new-upstream")


@blueprint.get("")
def index() -> Response:
    """Show the providers that are installed."""
    providers = sorted(current_gateway().providers.by_kind.items())
    rows = [(kind, _describe_setup(provider), url_for(_endpoint(provider), kind=kind)) for kind, provider in providers]
    return page("dashboard/new_upstream.html", title="Add an upstream", providers=rows)


def _describe_setup(provider: Provider) -> str:
    if provider.signs_in:
        return "Sign in to an account with a browser."
    return "With a URL and an API key." if provider.connection_options else "It only needs a name."


def _endpoint(provider: Provider) -> str:
    return "dashboard.new_upstream.sign_in" if provider.signs_in else "dashboard.new_upstream.form"


def _find_provider(kind: str) -> Provider:
    provider = current_gateway().providers.by_kind.get(kind)
    if provider is None:
        raise GatewayError(404, f"There is no provider {kind[:40]!r}.")
    return provider


# ------------------------------------------------------------------------------------------------------------ by form
@blueprint.get("/<kind>")
def form(kind: str) -> Response:
    """Show the form of a provider."""
    return _show_form(kind, Form())


@blueprint.post("/<kind>")
def add(kind: str) -> Response:
    """Add the upstream, and test it."""
    provider, sent, gateway = _find_provider(kind), Form.sent(), current_gateway()
    if provider.signs_in:
        raise GatewayError(404, "Upstreams of this provider are added by signing in.")
    name = sent.text("name")
    try:
        upstreams.add(gateway, kind, name, sent.text("prefix"), read_new_fields(provider, sent))
    except GatewayError as error:
        sent.note(error)
        return _show_form(kind, sent, 400)
    upstream = upstreams.find_state(gateway, name).upstream
    try:
        result = f"It answers, and serves {len(upstreams.test(gateway, name))} models."
    except GatewayError as error:
        problem = upstreams.explain(gateway, upstream, error)
        result = f"It does not work yet. {problem}"
    return redirect_with_notice(f"The upstream {name} is added. {result}", SHOW, upstream_id=upstream.id)


def _show_form(kind: str, sent: Form, status: int = 200) -> Response:
    fields = list_new_fields(_find_provider(kind))
    title = f"Add an upstream of {kind}"
    return page(
        "dashboard/new_upstream_form.html",
        title=title,
        status=status,
        form=sent,
        kind=kind,
        fields=fields,
    )


# --------------------------------------------------------------------------------------------------------- by sign-in
@blueprint.get("/<kind>/sign-in")
def sign_in(kind: str) -> Response:
    """Ask for the name of the account's upstream, unless ``upstream`` is the id of one."""
    _find_provider(kind)
    upstream_id = request.args.get("upstream")
    name = find(upstream_id).upstream.name if upstream_id else None
    return _show_sign_in(kind, Form(), name=name)


@blueprint.post("/<kind>/sign-in")
def begin_sign_in(kind: str) -> Response:
    """Show the page to open, and ask for the URL that it ends on."""
    sent = Form.sent()
    try:
        begun = signing_in.begin(current_gateway(), kind, sent.text("name") or None)
    except GatewayError as error:
        sent.note(error)
        return _show_sign_in(kind, sent, 400)
    return _show_sign_in(kind, Form(), begun=begun)


@blueprint.post("/<kind>/sign-in/finish")
def finish_sign_in(kind: str) -> Response:
    """Finish the sign-in with the URL that was pasted."""
    sent, gateway = Form.sent(), current_gateway()
    try:
        upstream = signing_in.finish(gateway, sent.text("ticket"), sent.text("pasted"))
    except GatewayError as error:
        sent.note(error, {"ticket": "", "name": ""})
        return _show_sign_in(kind, sent, 400, begun=_resume(sent.text("ticket")))
    return redirect_with_notice(f"Signed in: {upstream.name} can serve.", SHOW, upstream_id=upstream.id)


def _resume(ticket: str) -> BegunSignIn | None:
    try:
        return signing_in.resume(current_gateway(), ticket)
    except GatewayError:
        return None


def _show_sign_in(
    kind: str, sent: Form, status: int = 200, *, name: str | None = None, begun: BegunSignIn | None = None
) -> Response:
    title = f"Sign in to {name}" if name else f"Sign in to {kind}"
    return page(
        "dashboard/upstream_sign_in.html",
        title=title,
        status=status,
        form=sent,
        kind=kind,
        name=name,
        begun=begun,
        minutes=signing_in.SECONDS_TO_FINISH // 60,
    )
