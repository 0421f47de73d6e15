"""Reading what an upstream answers to a request for the number of its input tokens."""

import requests

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.failures import NO_REASON, read_failure_body

OPERATORS = (401, 403)
"""Statuses that are no business of the client: the key is the operator's."""
NO_ENDPOINT = (404, 405, 501)
"""Statuses of servers that imitate the API and do not count."""


def read_count(response: requests.Response, field: str, *, secret: str | None, is_needed: bool) -> int | None:
    """Return the count in an answer; None if there is none, so that the gateway estimates.

    :param field: the field of the JSON object that holds the count.
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
        counted = jsontext.loads(response.content)
    except ValueError:
        return None
    count = counted.get(field) if isinstance(counted, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def _count_error(status: int, content: bytes) -> GatewayError:
    """Return the error for a request that only the upstream could have counted.

    :param status: of the upstream's answer.
    :param content: its body, without secrets.
    """
    if status in NO_ENDPOINT:
        return GatewayError(501, "The upstream of this model does not count tokens.")
    failure = read_failure_body(content, status)
    message = failure.message if failure else f"The upstream did not count the tokens ({status})."
    is_passed_on = 400 <= status < 600 and status not in OPERATORS
    return GatewayError(status if is_passed_on else 502, message if is_passed_on else NO_REASON)
