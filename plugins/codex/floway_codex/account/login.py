"""Signing in through the browser: OAuth's authorization code with PKCE, as the codex CLI does it."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from floway_codex.account import oauth
from floway_codex.account.auth_file import import_account
from floway_codex.settings import authorize_url
from floway_codex.wire import profile
from floway_core.contexts import Services, Upstream
from floway_core.upstream import HttpClient

SCOPE = "openid profile email offline_access"
PATH = "/auth/callback"
PORTS = (1455, 1457)
"""Where the browser may be sent back to: the sign-in page knows these. The second is for when the first is taken."""
LONGEST_REASON = 200


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has begun."""

    url: str
    """The page to open in a browser."""
    redirect_uri: str
    state: str
    """Comes back with the code, and shows that it belongs to this sign-in."""
    verifier: str = field(repr=False)
    """Never leaves this process but with the code."""


class SignInFailed(Exception):
    """The browser came back without a code. The message says why."""


def begin(services: Services, port: int) -> SignIn:
    """A sign-in whose browser comes back to ``port`` of its own machine."""
    settings = services.settings.plugin
    known = profile.shipped()[settings["codex_profile"]].known
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    digest = hashlib.sha256(verifier.encode()).digest()
    redirect_uri = f"http://localhost:{port}{PATH}"
    query = {
        "response_type": "code",
        "client_id": known["client_id"],
        "redirect_uri": redirect_uri,
        "scope": SCOPE,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "state": state,
        "originator": known["originator"],
    }
    url = f"{authorize_url(settings['codex_auth_url'])}?{urlencode(query, quote_via=quote)}"
    return SignIn(url, redirect_uri, state, verifier)


def code(callback: str, state: str) -> str:
    """The code in the URL that the browser came back to.

    :raises ValueError: the URL does not belong to this sign-in.
    :raises SignInFailed: it does, and holds no code.
    """
    try:
        query = parse_qs(urlsplit(callback.strip()).query)
    except ValueError:
        query = {}
    stated, error, found = (query.get(name, [""])[0] for name in ("state", "error", "code"))
    if not secrets.compare_digest(stated.encode(), state.encode()):
        raise ValueError("this is not the URL that the sign-in ended on: its state is missing or another one")
    if error or not found:
        reason = f"{error}: {query.get('error_description', [''])[0]}".strip(": ") or "no code came back"
        raise SignInFailed("".join(letter for letter in reason if letter.isprintable())[:LONGEST_REASON])
    return found


def finish(services: Services, sign_in: SignIn, code: str, name: str | None) -> Upstream:
    """Exchange the code for tokens, and store the account as an import does.

    :param name: of the upstream, as for ``import_account``.
    :raises SignInFailed: the code is refused, or it gives no usable account.
    :raises GatewayError: 503, the token endpoint is out of order; 409, the name does not fit.
    """
    settings = services.settings.plugin
    shape = profile.shipped()[settings["codex_profile"]]
    http = HttpClient(services.settings)
    try:
        grant = oauth.exchange(http, settings["codex_auth_url"], shape, code, sign_in.redirect_uri, sign_in.verifier)
    except oauth.GrantRefused as refusal:
        raise SignInFailed(str(refusal)) from None
    try:
        return import_account(services, {"tokens": vars(grant)}, name)
    except ValueError as error:
        raise SignInFailed(str(error)) from None
