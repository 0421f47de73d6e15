"""Read the answer of an upstream to a request that counts input tokens."""

import requests

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.failures import NO_REASON, read_failure_body

CREDENTIAL_ERRORS = (401, 403)
"""Statuses for wrong credentials. They are not relayed, because the credentials are the operator's."""
NO_ENDPOINT = (404, 405, 501)
"""Statuses of compatible servers that cannot count."""


def read_count(response: requests.Response, field: str, *, secret: str | None, is_needed: bool) -> int | None:
    """Return the count in an answer; None if there is none, so that the gateway estimates it.

    :param field: the field of the JSON object with the count.
    :param secret: the upstream's key, which some servers repeat in their errors; clients must not see it.
    :param is_needed: whether only the upstream can count the request.
    :raises GatewayError: the upstream did not count a request that only it can count.
    """
    if response.status_code != 200:
        if is_needed:
            content = response.content.replace(secret.encode(), b"***") if secret else response.content
            raise _count_error(response.status_code, content)
        return None
    try:
        answer = jsontext.loads(response.content)
    except ValueError:
        return None
    count = answer.get(field) if isinstance(answer, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def _count_error(status: int, content: bytes) -> GatewayError:
    """Return the error for a request that only the upstream could have answer.

    :param status: of the upstream's answer.
    :param content: its body, without secrets.
    """
    if status in NO_ENDPOINT:
        return GatewayError(501, "The upstream of this model does not count tokens.")
    failure = read_failure_body(content, status)
    message = failure.message if failure else f"The upstream did not count the tokens ({status})."
    is_relayed = 400 <= status < 600 and status not in CREDENTIAL_ERRORS
    return GatewayError(status if is_relayed else 502, message if is_relayed else NO_REASON)
