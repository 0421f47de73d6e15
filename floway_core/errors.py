"""The errors of the gateway, and the only code that builds an OpenAI error body."""

from collections.abc import Iterable, Mapping
from typing import Any

from floway_core.protocol import headers, jsontext
from floway_core.protocol.failures import NO_REASON, Failure, default_type, read_failure_body
from floway_core.protocol.retry import retry_after


class StartupError(Exception):
    """Floway cannot start. The message explains the cause and the fix to the operator, in one line."""


class ClientDisconnected(Exception):
    """The client closed its connection, so the request ends without an answer."""


MAX_MESSAGE_CHARACTERS = 4000
"""Limit for messages of errors, and for the names of parameters: both may quote a client."""


class GatewayError(Exception):
    """The request fails with this HTTP status and an OpenAI error object.

    Providers and hooks may raise it. The client receives it unchanged, so the message must not contain a secret.
    What is longer than ``MAX_MESSAGE_CHARACTERS`` is cut off.

    :param status: HTTP status, 400 to 599.
    :param message: one sentence for the person at the client.
    :param type: OpenAI's error class; by default ``invalid_request_error`` below 500, else ``server_error``.
    :param code: machine-readable reason, or None.
    :param param: the wrong request parameter, or None.
    :param headers: extra response headers, such as ``retry-after``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _shorten(message)
        self.type = type or ("invalid_request_error" if status < 500 else "server_error")
        self.code = code
        self.param = param and _shorten(param)
        self.headers = dict(headers or {})
        self.relayed_headers: list[tuple[str, str]] = []
        """Headers of the upstream's answer that are relayed to the client."""

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error body: ``{"error": {"message", "type", "param", "code"}}``."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def content(self) -> bytes:
        """Return ``body`` as JSON."""
        return jsontext.dumps(self.body())

    def upstream_body(self, dialect: str) -> bytes | None:
        """Return the body of the upstream's error answer if the upstream speaks ``dialect``; None for other errors."""
        return None


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "..."


class Overloaded(GatewayError):
    """The gateway serves as many requests as it can."""

    def __init__(self) -> None:
        message = "The gateway serves as many requests as it can at the moment. Try again soon."
        super().__init__(503, message, code="server_overloaded", headers={"retry-after": "1"})


class ShuttingDown(GatewayError):
    """The gateway shuts down, and the grace time of running requests is over."""

    def __init__(self) -> None:
        message = "The gateway is shutting down."
        super().__init__(503, message, code="server_shutting_down", headers={"retry-after": "1"})


class UpstreamUnreachable(GatewayError):
    """The connection to the upstream failed, or the upstream closed it without an answer."""

    def __init__(self, message: str) -> None:
        super().__init__(502, message, code="upstream_unreachable")


class UpstreamTimeout(GatewayError):
    """The upstream sent nothing within the timeout of the settings."""

    def __init__(self, message: str) -> None:
        super().__init__(504, message, code="upstream_timeout")


class UpstreamBroken(GatewayError):
    """The upstream's answer ended early or violates its protocol."""

    def __init__(self, message: str) -> None:
        super().__init__(502, message, code="upstream_disconnected")


class NoModelList(GatewayError):
    """An upstream did not return a model list. The code names the likely cause."""

    CREDENTIALS_REFUSED = "upstream_credentials_refused"
    WRONG_ADDRESS = "upstream_address_wrong"
    """The server at the address has another API."""
    UPSTREAM_ERROR = "upstream_error"

    def __init__(self, upstream: str, status: int, content_type: str | None = None) -> None:
        """:param upstream: the subject of the message: ``The upstream 'name'``.
        :param status: HTTP status of the answer.
        :param content_type: media type of the answer; a web page suggests a wrong address.
        """
        is_page = (content_type or "").lower().startswith("text/html")
        if status in (401, 403, 407) and not is_page:
            code = self.CREDENTIALS_REFUSED
        elif status >= 500 or status in (408, 425, 429):
            code = self.UPSTREAM_ERROR
        else:
            code = self.WRONG_ADDRESS
        answer = "sent no model list." if status == 200 else f"answered {status} when asked for its models."
        super().__init__(502, f"{upstream} {answer}", code=code)


class _ReportedFailure(GatewayError):
    """The upstream reported a failure."""

    failure: Failure

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error body, with the further fields of the upstream's error."""
        return {**self.failure.siblings, "error": {**self.failure.extra, **super().body()["error"]}}


class UpstreamFailed(_ReportedFailure):
    """The upstream reported a failure in a 200 answer or in an event of its stream."""

    def __init__(self, failure: Failure, answer_headers: Iterable[tuple[str, str]] = ()) -> None:
        """:param answer_headers: headers of the answer, names in lower case."""
        code = failure.code or "upstream_failed"
        error_type = failure.type or default_type(failure.status)
        super().__init__(failure.status, failure.message, type=error_type, code=code, param=failure.param)
        self.failure = failure
        self.headers = _retry_headers(failure, failure.status, answer_headers)


class UpstreamRefused(_ReportedFailure):
    """The upstream answered with a status that is not 2xx. The client gets the same status and the reason.

    The gateway relays a complete OpenAI error body byte for byte. It converts other bodies to that form, and keeps
    their other fields.
    """

    def __init__(
        self, status: int, answer_headers: Iterable[tuple[str, str]], content: bytes, dialect: str = "responses"
    ) -> None:
        """:param answer_headers: headers of the answer, names in lower case.
        :param content: its body.
        :param dialect: the API format that the upstream speaks.
        """
        answer_headers = list(answer_headers)
        self._received_body, self._dialect = content, dialect
        self.upstream_status = status
        # clients cannot handle a 3xx and the like
        status = status if 400 <= status < 600 else 502
        self.failure = read_failure_body(content, status) or Failure(NO_REASON, status=status)
        error_type, code = self.failure.type or default_type(status), self.failure.code or "upstream_refused"
        super().__init__(status, self.failure.message, type=error_type, code=code, param=self.failure.param)
        self._relayed = content if _is_complete_error(content) else None
        self.relayed_headers = headers.relayed_headers(answer_headers)
        if "retry-after" not in dict(self.relayed_headers):
            self.headers = _retry_headers(self.failure, status, answer_headers)

    def content(self) -> bytes:
        """Return the upstream's own body if it can be relayed, else ``body()`` as JSON."""
        return super().content() if self._relayed is None else self._relayed

    def upstream_body(self, dialect: str) -> bytes | None:
        """Return the error as the upstream sent it, if it is complete in this dialect."""
        return self._received_body if dialect == self._dialect else None


class AccountRefused(GatewayError):
    """The upstream refused the gateway's own account. The error states that the client's API key is not the cause."""

    def __init__(self, upstream: str, status: int) -> None:
        """:param upstream: name of the upstream.
        :param status: 401 or 403, the status of its answer.
        """
        super().__init__(503 if status == 401 else 502, account_refusal(upstream, status), code=ACCOUNT_REFUSED)


ACCOUNT_REFUSED = "upstream_account_refused"


def account_refusal(upstream: str, status: int) -> str:
    """Return the message for a client after an upstream refused the gateway's account with 401 or 403."""
    reason = "does not accept the gateway's own sign-in" if status == 401 else "denies the gateway's own account access"
    return f"The upstream {upstream!r} {reason} ({status}). Only its operator can fix this; your API key is valid."


def _is_complete_error(content: bytes) -> bool:
    try:
        value = jsontext.loads(content)
    except ValueError:
        return False
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict) and "type" in value:  # another format, with this field outside of the error object
        return False
    return (
        isinstance(error, dict)
        and all(isinstance(error.get(name), str) for name in ("message", "type"))
        and all(name in error and isinstance(error[name], str | None) for name in ("param", "code"))
    )


def _retry_headers(failure: Failure, status: int, answer_headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    wait = retry_after(failure, answer_headers) if status in (429, 503) else None
    return {} if wait is None else {"retry-after": str(wait)}
