"""Signing in and out."""

import hmac
import secrets

from flask import Blueprint, Response, g, redirect, request, url_for

from floway_core.errors import GatewayError
from floway_dashboard.access import attempts, passwords, sessions
from floway_dashboard.access.guard import (
    COOKIE,
    PATH,
    TOKEN_FIELD,
    client_address,
    current_session,
    is_encrypted,
    set_cookie,
)
from floway_dashboard.navigation import ENTRIES
from floway_dashboard.page import page
from floway_dashboard.state import current_services

blueprint = Blueprint("signin", __name__)

FORM_COOKIE = "floway_dashboard_form"
"""Ties the form to the browser, because there is no session yet."""
FORM_SECONDS = 3600


@blueprint.get("")
def first_page() -> Response:
    """Go to the first page of the menu."""
    return redirect(url_for(ENTRIES[0].endpoint), 303)  # type: ignore[return-value]  # werkzeug's base class


@blueprint.get("/sign-in")
def show() -> Response:
    """Show the form."""
    if g.dashboard_session:
        return redirect(_destination(), 303)  # type: ignore[return-value]  # werkzeug's base class
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A link on another site led here. The browser sends the cookie only to a page that this site asks for.
        return page("dashboard/arrival.html", title="Floway", destination=_destination())
    return _form()


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Begin a session for a user who sends the admin token or a password."""
    services, address = current_services(), client_address()
    if not _is_own_form():
        return _form("The form is out of date. Enter the password again.", 403)
    if wait := attempts.count_attempt(services.database, address):
        return _form(f"Too many attempts. Try again in {wait} seconds.", 429, wait)
    password = request.form.get("password", "")
    is_token = passwords.is_admin_token(services, password)
    try:
        role = passwords.OPERATOR if is_token else passwords.find_role(services.database, password)
    except passwords.Busy:
        return _form("Others are signing in. Try again in a second.", 429, 1)
    if role is None:
        return _form("That is neither the admin token nor a password of this dashboard.", 403)
    attempts.clear_attempts(services.database, address)
    cookie, seconds = sessions.begin(services, role, address, password if is_token else None)
    response = redirect(_destination(), 303)
    set_cookie(response, COOKIE, cookie, seconds)  # type: ignore[arg-type]  # werkzeug's base class
    return response  # type: ignore[return-value]


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End the session."""
    sessions.end(current_services().database, current_session().id)
    response = redirect(url_for("dashboard.signin.show"), 303)
    response.delete_cookie(COOKIE, path=PATH, secure=is_encrypted(), httponly=True, samesite="Strict")
    return response  # type: ignore[return-value]  # werkzeug's base class


def _form(problem: str = "", status: int = 200, wait: int = 0) -> Response:
    services = current_services()
    is_set_up = services.settings.admin_token is not None or bool(passwords.list_roles(services.database))
    # The same for all forms that a browser has open, so that none of them makes another one invalid.
    nonce = request.cookies.get(FORM_COOKIE, "")[:100] or secrets.token_urlsafe(16)
    response = page(
        "dashboard/signin.html",
        title="Sign in",
        status=status,
        problem=problem,
        is_set_up=is_set_up,
        form_token=services.secrets.encrypt(nonce),
        destination=_destination(),
    )
    set_cookie(response, FORM_COOKIE, nonce, FORM_SECONDS)
    if wait:
        response.headers["retry-after"] = str(wait)
    return response


def _is_own_form() -> bool:
    """Whether the form in the current POST was made for this browser."""
    sent, nonce = request.form.get(TOKEN_FIELD, ""), request.cookies.get(FORM_COOKIE, "")
    if not nonce or not sent.isascii() or len(sent) > 1000:
        return False
    try:
        return hmac.compare_digest(current_services().secrets.decrypt(sent).encode(), nonce.encode())
    except GatewayError:  # forged, or encrypted with another key
        return False


def _destination() -> str:
    """Return the path to go to after signing in: a page of the dashboard."""
    path = request.values.get("next", "")
    is_own = path.startswith((f"{PATH}/", f"{PATH}?")) and path.isprintable() and not set(path) & set("\\")
    return path if is_own and "sign-" not in path else url_for("dashboard.signin.first_page")
