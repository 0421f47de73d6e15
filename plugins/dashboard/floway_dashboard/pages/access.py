"""Passwords and sessions."""

from flask import Blueprint, Response, request, url_for

from floway_core.errors import GatewayError
from floway_dashboard.access import passwords, sessions
from floway_dashboard.access.guard import current_session
from floway_dashboard.forms import Form
from floway_dashboard.page import ask_confirmation, is_confirmed, page, redirect_with_notice
from floway_dashboard.pagination import paginate
from floway_dashboard.state import current_services

blueprint = Blueprint("access", __name__, url_prefix="/access")

ROLES = {passwords.OPERATOR: "Operator", passwords.VIEWER: "Viewer"}


@blueprint.get("")
def index() -> Response:
    """Show the passwords and the sessions."""
    return _show(Form())


def _show(form: Form, status: int = 200) -> Response:
    services = current_services()
    return page(
        "dashboard/access.html",
        title="Access",
        status=status,
        form=form,
        roles=ROLES,
        with_password=passwords.list_roles(services.database),
        has_admin_token=services.settings.admin_token is not None,
        sessions=paginate(sessions.list_running(services.database)),
    )


@blueprint.post("/password")
def set_password() -> Response:
    """Set the password of a role."""
    form = Form.sent()
    role, password = form.text("role"), request.form.get("password", "")
    if role not in ROLES:
        form.errors["role"] = "Choose a role."
    if password != request.form.get("repeated", ""):
        form.errors["repeated"] = "The passwords differ."
    elif not form.errors:
        try:
            passwords.put(current_services().database, role, password)
        except ValueError as problem:
            form.errors["password"] = str(problem)
    if form.errors:
        return _show(form, 400)
    return redirect_with_notice(f"The {role} password is set. All its sessions have ended.", "dashboard.access.index")


@blueprint.post("/sessions/<session_id>/end")
def end_session(session_id: str) -> Response:
    """End a session."""
    database = current_services().database
    session = next((session for session in sessions.list_running(database) if session.id == session_id), None)
    if session is None:
        raise GatewayError(404, "This session has ended already.")
    if not is_confirmed():
        own = " It is your own." if session.id == current_session().id else ""
        return ask_confirmation(
            f"End the {session.role} session from {session.address}?",
            consequence=f"Whoever uses it has to sign in again.{own}",
            action="End session",
            back=url_for("dashboard.access.index"),
        )
    sessions.end(database, session.id)
    return redirect_with_notice("The session has ended.", "dashboard.access.index")
