"""What a 401 of the backend means: the sign-in has ended, or the access token wants renewing."""

import logging

from floway_codex.account import accounts, credentials
from floway_core.contexts import Services, Upstream
from floway_core.protocol import jsontext

log = logging.getLogger("floway.codex")

SESSION_ENDED = "token_invalidated"
LONGEST_MESSAGE = 200


def end_session(services: Services, upstream: Upstream, token: str | None, content: bytes) -> None:
    """Take the account out of use if that is what the 401 with this ``content`` says.

    Nothing is done when ``token``, the refused one, has been replaced since, by a new sign-in say.

    :raises GatewayError: 503, the sign-in has ended.
    """
    code, message = reason(content)
    if code != SESSION_ENDED:
        return
    current = credentials.read_refresh_token(services, upstream.id)
    stored = credentials.read_access_token(services, upstream.id)
    if current is None or stored is None or stored.value != token:
        return
    message = message.replace(stored.value, "***")
    if accounts.terminate(services, upstream.id, accounts.SESSION_TERMINATED, message, current.version):
        log.warning("Codex upstream %s is %s", upstream.name, accounts.SESSION_TERMINATED)
        raise accounts.unavailable(accounts.SESSION_TERMINATED, message)


def reason(body: bytes) -> tuple[str, str]:
    """(code, message) of ``{"error": {"code", "message"}}``, also with ``detail`` around them; empty where unknown."""
    try:
        answer = jsontext.loads(body)
    except ValueError:
        return "", ""
    for name in ("error", "detail"):
        inner = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(inner, dict):
            answer = inner
    if not isinstance(answer, dict):
        return "", ""
    code, message = answer.get("code"), answer.get("message")
    return code if isinstance(code, str) else "", message[:LONGEST_MESSAGE] if isinstance(message, str) else ""
