"""The OAuth token endpoint."""

from typing import Any

from .accounts import Accounts
from .answers import Answer, error, json_answer
from .recording import RecordedRequest

JSON = Any

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
FORM, JSON_BODY = "application/x-www-form-urlencoded", "application/json"

# grant type -> (content type, required parameters, optional ones); the CLI refreshes with JSON, and only the code
# exchange is a form.  Any other parameter (`state`, for one) is refused, as the real endpoint does.
GRANTS = {
    "refresh_token": (JSON_BODY, ("client_id", "refresh_token"), ("refresh_reason", "scope")),
    "authorization_code": (FORM, ("client_id", "code", "redirect_uri", "code_verifier"), ()),
}


def token(accounts: Accounts, request: RecordedRequest) -> Answer:
    """Answer POST /oauth/token, or raise the refusal."""
    if request.body_error:
        raise error(400, "invalid_request", request.body_error[1])
    if not isinstance(request.body, dict):
        raise error(400, "invalid_request", "The body must be a JSON object or a form")
    parameters: JSON = request.body
    grant_type = parameters.get("grant_type")
    check_parameters(parameters, grant_type, request.header("content-type") or "")
    if grant_type == "refresh_token":
        tokens = accounts.refresh(parameters["refresh_token"])
    else:
        tokens = exchange(accounts, parameters["code"])
    lifetime = int(accounts.access_tokens[tokens["access_token"]].expires) - int(request.at)
    body = {**tokens, "token_type": "Bearer", "expires_in": lifetime, "scope": "openid profile email offline_access"}
    return json_answer(200, body, (("cache-control", "no-store"),), f"200 {grant_type}")


def check_parameters(parameters: JSON, grant_type: JSON, content_type: str) -> None:
    """Refuse a token request of an unknown shape."""
    if grant_type not in GRANTS:
        raise error(400, "unsupported_grant_type", f"Unsupported grant_type: {grant_type}")
    wanted_type, required, optional = GRANTS[grant_type]
    if content_type.partition(";")[0].strip() != wanted_type:
        raise error(400, "invalid_request", f"grant_type {grant_type} must be sent as {wanted_type}")
    for name in required:
        if not isinstance(parameters.get(name), str) or not parameters[name]:
            raise error(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    for name in parameters:
        if name not in ("grant_type", *required, *optional):
            raise error(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
    if parameters["client_id"] != CLIENT_ID:
        raise error(401, "invalid_client", "Unknown client")


def exchange(accounts: Accounts, code: str) -> dict[str, str]:
    """Spend an authorization code; the verifier is not checked against a challenge, there was none."""
    with accounts.lock:
        account = accounts.codes.pop(code, None)
    if account is None:
        raise error(400, "invalid_grant", "Invalid authorization code")
    return accounts.issue(account, account.access_lifetime)
