"""The checks before each view: the session, the role, and the token of the form."""

import hmac
import ipaddress

from flask import Response, g, redirect, request, url_for

from floway_core.errors import GatewayError
from floway_dashboard.access import sessions
from floway_dashboard.access.sessions import Session
from floway_dashboard.state import current_services

COOKIE = "floway_dashboard"
PATH = "/dashboard"
"""The path of the cookies."""

PUBLIC_ENDPOINTS = frozenset({"dashboard.static", "dashboard.signin.show", "dashboard.signin.sign_in"})
"""Endpoints that need no session."""

VIEWER_ENDPOINTS = frozenset({"dashboard.signin.sign_out"})
"""Endpoints to which viewers may post."""

TOKEN_FIELD = "form_token"


def check() -> Response | None:
    """Check the current request, and note its session.

    :returns: a redirect to the sign-in, if the request is for a page and has no session; otherwise None.
    :raises GatewayError: 401, 403.
    """
    g.dashboard_session = None
    if request.endpoint == "dashboard.static":
        return None
    session = g.dashboard_session = sessions.find(current_services(), request.cookies.get(COOKIE, ""))
    if is_change() and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise GatewayError(403, "This form was sent by another site.", code="cross_site_form")
    if request.endpoint in PUBLIC_ENDPOINTS:
        return None
    if session is None:
        return _ask_to_sign_in()
    if is_change():
        _check_change(session)
    return None


def is_change() -> bool:
    """Whether the request may change something."""
    return request.method not in ("GET", "HEAD", "OPTIONS")


def current_session() -> Session:
    """Return the session of the current request, which has one."""
    session: Session = g.dashboard_session
    return session


def client_address() -> str:
    """Return the address of the browser.

    A proxy on this host sends it in ``x-forwarded-for``. The last address there is the peer of the proxy.
    """
    peer = request.remote_addr or ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded[:64] if forwarded and _is_local(peer) else peer or "local"


def is_encrypted() -> bool:
    """Whether the browser has sent the request over TLS, which a proxy may terminate.

    A forged header only keeps the sender's own browser from sending the cookie.
    """
    claims = (request.headers.get("x-forwarded-proto", ""), request.headers.get("origin", ""))
    return request.is_secure or any(text.lower().startswith("https") for text in claims)


def set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that no script and no other site can use."""
    response.set_cookie(
        name, value, max_age=seconds, path=PATH, secure=is_encrypted(), httponly=True, samesite="Strict"
    )


def _ask_to_sign_in() -> Response:
    if is_change() or request.headers.get("accept", "") == "application/json":
        raise GatewayError(401, "Your session has ended. Sign in again.", code="signed_out")
    target = request.full_path.rstrip("?")
    return redirect(url_for("dashboard.signin.show", next=target), 303)  # type: ignore[return-value]


def _check_change(session: Session) -> None:
    sent = request.form.get(TOKEN_FIELD, "") or request.headers.get("x-form-token", "")
    if not hmac.compare_digest(sent.encode(), session.form_token.encode()):
        message = "The form is out of date, or was not made by this page. Open the page again, and repeat what you did."
        raise GatewayError(403, message, code="invalid_form_token")
    if not session.may_change and request.endpoint not in VIEWER_ENDPOINTS:
        raise GatewayError(403, "Viewers may look at everything, and change nothing.", code="viewers_change_nothing")


def _is_local(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:  # a Unix socket has no address
        return True
