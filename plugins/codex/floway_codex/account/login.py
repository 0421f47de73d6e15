"""Sign-in with a browser: the OAuth authorization code flow with PKCE, as in the codex CLI."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from floway_codex.account import oauth
from floway_codex.account.auth_file import import_account
from floway_codex.settings import authorize_url
from floway_codex.wire.host import default_profile
from floway_core.contexts import Services, Upstream
from floway_core.upstream import HttpClient

SCOPE = "openid profile email offline_access"
CALLBACK_PATH = "/auth/callback"
CALLBACK_PORTS = (1455, 1457)
"""The ports of redirect URIs that the sign-in page accepts; the second one is for when the first is in use."""
MAX_REASON_LENGTH = 200
ORIGINATOR = "codex_cli_rs"
"""The originator of ``codex login``, whatever program asks for turns later."""


@dataclass(frozen=True)
class SignIn:
    """A sign-in in progress."""

    url: str
    """The page to open in a browser."""
    redirect_uri: str
    state: str
    """Comes back with the code, and proves that the code belongs to this sign-in."""
    verifier: str = field(repr=False)
    """The PKCE code verifier. It is only sent together with the code."""


class SignInFailed(Exception):
    """The sign-in ended without a usable account. The message says why."""


def start_sign_in(services: Services, port: int) -> SignIn:
    """Start a sign-in. The browser returns to ``port`` of the machine that it runs on."""
    settings = services.settings.plugin
    constants = default_profile(settings).static_values
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    digest = hashlib.sha256(verifier.encode()).digest()
    redirect_uri = f"http://localhost:{port}{CALLBACK_PATH}"
    query = {
        "response_type": "code",
        "client_id": constants["client_id"],
        "redirect_uri": redirect_uri,
        "scope": SCOPE,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "state": state,
        "originator": ORIGINATOR,
    }
    url = f"{authorize_url(settings['codex_auth_url'])}?{urlencode(query, quote_via=quote)}"
    return SignIn(url, redirect_uri, state, verifier)


def extract_code(callback: str, state: str) -> str:
    """Extract the authorization code from the URL that the browser returned to.

    :raises ValueError: the URL does not belong to this sign-in.
    :raises SignInFailed: the URL belongs to this sign-in, but holds no code.
    """
    try:
        query = parse_qs(urlsplit(callback.strip()).query)
    except ValueError:
        query = {}
    returned_state, error, code = (query.get(name, [""])[0] for name in ("state", "error", "code"))
    if not secrets.compare_digest(returned_state.encode(), state.encode()):
        raise ValueError("this is not the URL that the sign-in ended on: its state is missing or another one")
    if error or not code:
        reason = f"{error}: {query.get('error_description', [''])[0]}".strip(": ") or "no code came back"
        raise SignInFailed("".join(letter for letter in reason if letter.isprintable())[:MAX_REASON_LENGTH])
    return code


def encode_sign_in(sign_in: SignIn) -> str:
    """What ``decode_sign_in`` needs. It holds the verifier, and so is a secret."""
    return json.dumps(vars(sign_in))


def decode_sign_in(text: str) -> SignIn:
    """The sign-in that ``encode_sign_in`` has encoded, perhaps in another process."""
    return SignIn(**json.loads(text))


def finish_sign_in(services: Services, sign_in: SignIn, code: str, name: str | None) -> Upstream:
    """Exchange the code for tokens, and store the account like an import.

    :param name: the name of the upstream, as for ``import_account``.
    :raises SignInFailed: the code is refused, or the tokens hold no usable account.
    :raises GatewayError: 503, the token endpoint is not available; 409, the name is not available.
    """
    settings = services.settings.plugin
    profile, http = default_profile(settings), HttpClient(services.settings)
    try:
        grant = oauth.exchange_code(
            http, settings["codex_auth_url"], profile, code, sign_in.redirect_uri, sign_in.verifier
        )
    except oauth.GrantRefused as refusal:
        raise SignInFailed(str(refusal)) from None
    try:
        return import_account(services, {"tokens": vars(grant)}, name)
    except ValueError as error:
        raise SignInFailed(str(error)) from None
