"""The responses of views: a page, a confirmation, or a redirect."""

from typing import Any

from flask import Response, g, make_response, redirect, render_template, request, url_for
from markupsafe import Markup

from floway_dashboard.access import sessions
from floway_dashboard.access.guard import TOKEN_FIELD, current_session
from floway_dashboard.navigation import ENTRIES, current_entry
from floway_dashboard.state import current_services

CONFIRMED = "confirmed"
"""The field of a form that was confirmed."""


def page(template: str, *, title: str, status: int = 200, **context: Any) -> Response:
    """Return a page.

    :param template: its file, which extends ``dashboard/base.html``.
    :param title: its heading, and the title of the window.
    :param context: the variables of the template. It also has ``title``, ``session``, ``notice``, ``navigation``,
        ``current_entry``, and ``token()``, which every form contains.
    """
    session = g.get("dashboard_session")
    notice = sessions.take_notice(current_services().database, session.id) if session else None
    html = render_template(
        template,
        title=title,
        session=session,
        notice=notice,
        navigation=ENTRIES,
        current_entry=current_entry(),
        token=form_token,
        **context,
    )
    return make_response(html, status)


def redirect_with_notice(sentence: str, endpoint: str, **arguments: Any) -> Response:
    """Redirect to another page after a change; a notice there says what was done.

    :param sentence: such as ``The key laptop is revoked.``
    :param endpoint: Flask's name of the page, with its ``arguments``.
    """
    sessions.leave_notice(current_services().database, current_session().id, sentence)
    return redirect(url_for(endpoint, **arguments), 303)  # type: ignore[return-value]  # werkzeug's base class


def is_confirmed() -> bool:
    """Whether the current POST is confirmed."""
    return request.form.get(CONFIRMED) == "yes"


def ask_confirmation(question: str, *, consequence: str, action: str, back: str) -> Response:
    """Ask for a confirmation. The page sends the same form again, with ``CONFIRMED``.

    :param question: such as ``Delete the key laptop?``
    :param consequence: a sentence about the effects.
    :param action: the label of the button, such as ``Delete``.
    :param back: the URL of the page to which the other button leads.
    """
    sent = [(name, value) for name, value in request.form.items(multi=True) if name not in (CONFIRMED, TOKEN_FIELD)]
    return page(
        "dashboard/confirmation.html", title=question, consequence=consequence, action=action, back=back, sent=sent
    )


def form_token() -> Markup:
    """Return the hidden field that proves that a form comes from a page of this session."""
    session = g.get("dashboard_session")
    return Markup('<input type="hidden" name="{}" value="{}">').format(
        TOKEN_FIELD, session.form_token if session else ""
    )
