"""The OAuth endpoints: authorization, without a sign-in page, and tokens."""

import base64
import hashlib
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .accounts import DEFAULT_LIFETIME_SECONDS, Accounts, AuthorizationCode
from .recording import RecordedRequest
from .responses import PlainResponse, Silence, SimulatedResponse, error_refusal, json_response

JSON = Any

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
FORM, JSON_BODY = "application/x-www-form-urlencoded", "application/json"

# grant type -> (content type, required parameters, optional ones); the CLI refreshes with JSON, and only the code
# exchange is a form.  Any other parameter (`state`, for one) is refused, as the real endpoint does.
GRANTS = {
    "refresh_token": (JSON_BODY, ("client_id", "refresh_token"), ("refresh_reason", "scope")),
    "authorization_code": (FORM, ("client_id", "code", "redirect_uri", "code_verifier"), ()),
}

AUTHORIZE_CONSTANTS = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "scope": "openid profile email offline_access",
    "code_challenge_method": "S256",
    "id_token_add_organizations": "true",
    "codex_cli_simplified_flow": "true",
}
AUTHORIZE = {*AUTHORIZE_CONSTANTS, "redirect_uri", "state", "code_challenge", "originator"}
REDIRECT = re.compile(r"http://localhost:\d+/auth/callback")
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def issue_token(accounts: Accounts, request: RecordedRequest) -> SimulatedResponse:
    """POST /oauth/token: issue tokens, or raise the refusal."""
    if accounts.claim_silence():
        return Silence()
    if request.body_error:
        raise error_refusal(400, "invalid_request", request.body_error[1])
    if not isinstance(request.body, dict):
        raise error_refusal(400, "invalid_request", "The body must be a JSON object or a form")
    parameters: JSON = request.body
    grant_type = parameters.get("grant_type")
    check_parameters(parameters, grant_type, request.header("content-type") or "")
    if grant_type == "refresh_token":
        tokens = accounts.refresh(parameters["refresh_token"])
    else:
        tokens = exchange_code(accounts, parameters)
    lifetime = int(accounts.access_tokens[tokens["access_token"]].expires) - int(request.at)
    body = {**tokens, "token_type": "Bearer", "expires_in": lifetime, "scope": "openid profile email offline_access"}
    return json_response(200, body, (("cache-control", "no-store"),), f"200 {grant_type}")


def check_parameters(parameters: JSON, grant_type: JSON, content_type: str) -> None:
    """Refuse a token request with wrong parameters."""
    if grant_type not in GRANTS:
        raise error_refusal(400, "unsupported_grant_type", f"Unsupported grant_type: {grant_type}")
    expected_type, required, optional = GRANTS[grant_type]
    if content_type.partition(";")[0].strip() != expected_type:
        raise error_refusal(400, "invalid_request", f"grant_type {grant_type} must be sent as {expected_type}")
    for name in required:
        if not isinstance(parameters.get(name), str) or not parameters[name]:
            raise error_refusal(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    for name in parameters:
        if name not in ("grant_type", *required, *optional):
            raise error_refusal(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
    if parameters["client_id"] != CLIENT_ID:
        raise error_refusal(401, "invalid_client", "Unknown client")


def exchange_code(accounts: Accounts, parameters: JSON) -> dict[str, str]:
    """Spend an authorization code; the verifier must match the challenge of the sign-in."""
    with accounts.lock:
        code = accounts.codes.pop(parameters["code"], None)
    if code is None:
        raise error_refusal(400, "invalid_grant", "Invalid authorization code")
    if code.redirect_uri not in (None, parameters["redirect_uri"]):
        raise error_refusal(400, "invalid_grant", "The redirect URI is not the one of the authorization request")
    if code.challenge not in (None, pkce_challenge(parameters["code_verifier"])):
        raise error_refusal(400, "invalid_grant", "The code verifier does not fit the code challenge")
    return accounts.issue(code.account, code.account.access_lifetime)


def pkce_challenge(verifier: str) -> str:
    """PKCE's S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def authorize(accounts: Accounts, request: RecordedRequest) -> PlainResponse:
    """GET /oauth/authorize for a user who is signed in and consents: redirect the browser at once."""
    query = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
    if set(query) != AUTHORIZE:
        raise error_refusal(400, "invalid_request", f"Missing or unknown: {', '.join(sorted(AUTHORIZE ^ set(query)))}")
    for name, value in AUTHORIZE_CONSTANTS.items():
        if query[name] != value:
            raise error_refusal(400, "invalid_request", f"{name} must be {value!r}")
    if not REDIRECT.fullmatch(query["redirect_uri"]) or not CHALLENGE.fullmatch(query["code_challenge"]):
        raise error_refusal(400, "invalid_request", "redirect_uri or code_challenge has an unknown form")
    if len(query["state"]) < 8:
        raise error_refusal(400, "invalid_state", "The state must be at least 8 characters long")
    if accounts.denies_sign_ins:
        back = {"error": "access_denied", "error_description": "The user denied the request."}
    else:
        account = accounts.in_browser or accounts.create("user@example.com", "pro", DEFAULT_LIFETIME_SECONDS)
        code = accounts.new_code(AuthorizationCode(account, query["redirect_uri"], query["code_challenge"]))
        back = {"code": code, "scope": query["scope"]}
    location = f"{query['redirect_uri']}?{urlencode({**back, 'state': query['state']})}"
    return PlainResponse(302, b"", (("location", location),), "302 back to the client")
