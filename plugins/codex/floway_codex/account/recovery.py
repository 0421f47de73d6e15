"""Recovery from a 401 of the backend: has the sign-in ended, or must the access token be renewed?"""

import logging

from floway_codex.account import accounts, credentials
from floway_core.contexts import Services, Upstream
from floway_core.protocol import jsontext

log = logging.getLogger("floway.codex")

SESSION_ENDED = "token_invalidated"
MAX_MESSAGE_LENGTH = 200


def terminate_if_session_ended(services: Services, upstream: Upstream, token: str | None, content: bytes) -> None:
    """Put the account in the state ``session_terminated`` if the 401 says that its session has ended.

    Nothing happens if ``token`` has been replaced since, for example by a new sign-in.

    :param token: the access token that was refused.
    :param content: the body of the 401.
    :raises GatewayError: 503, the session has ended.
    """
    code, message = parse_error(content)
    if code != SESSION_ENDED:
        return
    current = credentials.read_refresh_token(services, upstream.id)
    stored = credentials.read_access_token(services, upstream.id)
    if current is None or stored is None or stored.value != token:
        return
    message = message.replace(stored.value, "***")
    if accounts.terminate(services, upstream.id, accounts.SESSION_TERMINATED, message, current.version):
        log.warning("Codex upstream %s is %s", upstream.name, accounts.SESSION_TERMINATED)
        raise accounts.unavailable_error(accounts.SESSION_TERMINATED, message)


def parse_error(body: bytes) -> tuple[str, str]:
    """(code, message) of ``{"error": {"code", "message"}}``, also inside ``detail``; empty where one is missing."""
    try:
        payload = jsontext.loads(body)
    except ValueError:
        return "", ""
    for name in ("error", "detail"):
        inner = payload.get(name) if isinstance(payload, dict) else None
        if isinstance(inner, dict):
            payload = inner
    if not isinstance(payload, dict):
        return "", ""
    code, message = payload.get("code"), payload.get("message")
    return code if isinstance(code, str) else "", message[:MAX_MESSAGE_LENGTH] if isinstance(message, str) else ""
