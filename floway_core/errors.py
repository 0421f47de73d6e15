"""The errors of the gateway, and the one place where an OpenAI error body is built."""

from collections.abc import Iterable, Mapping
from typing import Any

from floway_core.protocol import headers, jsontext
from floway_core.protocol.failures import NO_REASON, Failure, default_type, read_failure_body
from floway_core.protocol.retry import retry_after


class StartupError(Exception):
    """Floway cannot start. The message is one line for the operator: what is wrong and what mends it."""


class ClientDisconnected(Exception):
    """The client closed its connection; there is nobody left to answer."""


class GatewayError(Exception):
    """A request fails with this HTTP status and an OpenAI error object.

    Providers and hooks may raise it; it reaches the client as it is, so the message must hold no secret.

    :param status: HTTP status, 400 to 599.
    :param message: one sentence for the person at the client.
    :param type: OpenAI's error class; by default ``invalid_request_error`` below 500, else ``server_error``.
    :param code: machine-readable reason, or None.
    :param param: the request parameter at fault, or None.
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
        self.message = message
        self.type = type or ("invalid_request_error" if status < 500 else "server_error")
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.relayed_headers: list[tuple[str, str]] = []
        """Headers of an upstream that the client is to see."""

    def body(self) -> dict[str, Any]:
        """The OpenAI error body: ``{"error": {"message", "type", "param", "code"}}``."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def content(self) -> bytes:
        """``body`` as JSON."""
        return jsontext.dumps(self.body())


class ShuttingDown(GatewayError):
    """The gateway ends, and the time is over for what still runs."""

    def __init__(self) -> None:
        message = "The gateway is shutting down."
        super().__init__(503, message, code="server_shutting_down", headers={"retry-after": "1"})


class UpstreamUnreachable(GatewayError):
    """No connection to the upstream, or it closed the connection without an answer."""

    def __init__(self, message: str) -> None:
        super().__init__(502, message, code="upstream_unreachable")


class UpstreamTimeout(GatewayError):
    """The upstream sent nothing within the time the settings allow."""

    def __init__(self, message: str) -> None:
        super().__init__(504, message, code="upstream_timeout")


class UpstreamBroken(GatewayError):
    """The upstream's answer ended early or is not what its protocol promises."""

    def __init__(self, message: str) -> None:
        super().__init__(502, message, code="upstream_disconnected")


class NoModelList(GatewayError):
    """An upstream that was asked for its models has answered something else. The code says what that speaks against."""

    CREDENTIALS = "upstream_credentials_refused"
    ADDRESS = "upstream_address_wrong"
    """Something answers there, but it is no such API."""
    TROUBLE = "upstream_error"

    def __init__(self, who: str, status: int, content_type: str | None = None) -> None:
        """:param who: the beginning of the sentence: the upstream."""
        is_page = (content_type or "").lower().startswith("text/html")
        if status in (401, 403, 407) and not is_page:
            code = self.CREDENTIALS
        elif status >= 500 or status in (408, 425, 429):
            code = self.TROUBLE
        else:
            code = self.ADDRESS
        told = "sent no model list." if status == 200 else f"answered {status} when asked for its models."
        super().__init__(502, f"{who} {told}", code=code)


class UpstreamFailed(GatewayError):
    """The upstream accepted the request and then said that it failed: in a 200, or in an event of its stream."""

    def __init__(self, failure: Failure, received: Iterable[tuple[str, str]] = ()) -> None:
        """:param received: headers of the answer, names in lower case."""
        code = failure.code or "upstream_failed"
        kind = failure.type or default_type(failure.status)
        super().__init__(failure.status, failure.message, type=kind, code=code, param=failure.param)
        self.failure = failure
        self.headers = _retry_headers(failure, failure.status, received)

    def body(self) -> dict[str, Any]:
        return {**self.failure.siblings, "error": {**self.failure.extra, **super().body()["error"]}}


class UpstreamRefused(GatewayError):
    """The upstream answered with a status that is not 2xx. The client gets that status, and the reason.

    A complete OpenAI error body is relayed byte for byte. Other answers are put into that shape, with the upstream's
    other fields beside the usual ones.
    """

    def __init__(self, status: int, received: Iterable[tuple[str, str]], content: bytes) -> None:
        """:param received: headers of the answer, names in lower case.
        :param content: its body.
        """
        received = list(received)
        self.upstream_status = status
        # 3xx and the like are no answer a client could act on
        status = status if 400 <= status < 600 else 502
        self.failure = read_failure_body(content, status) or Failure(NO_REASON, status=status)
        kind, code = self.failure.type or default_type(status), self.failure.code or "upstream_refused"
        super().__init__(status, self.failure.message, type=kind, code=code, param=self.failure.param)
        self._relayed = content if _is_complete_error(content) else None
        self.relayed_headers = headers.relayed_headers(received)
        if "retry-after" not in dict(self.relayed_headers):
            self.headers = _retry_headers(self.failure, status, received)

    def body(self) -> dict[str, Any]:
        return {**self.failure.siblings, "error": {**self.failure.extra, **super().body()["error"]}}

    def content(self) -> bytes:
        return super().content() if self._relayed is None else self._relayed


class AccountRefused(GatewayError):
    """The upstream refused the gateway's own account. The client's API key is good, and must not look bad."""

    def __init__(self, upstream: str, status: int) -> None:
        """:param upstream: its name.
        :param status: 401 or 403, as the upstream answered.
        """
        super().__init__(503 if status == 401 else 502, account_refusal(upstream, status), code=ACCOUNT_REFUSED)


ACCOUNT_REFUSED = "upstream_account_refused"


def account_refusal(upstream: str, status: int) -> str:
    """The sentence for the client of an upstream that refused its account with 401 or 403."""
    what = "does not accept the gateway's own sign-in" if status == 401 else "denies the gateway's own account access"
    return (
        f"The upstream {upstream!r} {what} ({status}). Its operator has to see to that; your API key is not at fault."
    )


def _is_complete_error(content: bytes) -> bool:
    try:
        value = jsontext.loads(content)
    except ValueError:
        return False
    error = value.get("error") if isinstance(value, dict) else None
    return (
        isinstance(error, dict)
        and all(isinstance(error.get(name), str) for name in ("message", "type"))
        and all(name in error and isinstance(error[name], str | None) for name in ("param", "code"))
    )


def _retry_headers(failure: Failure, status: int, received: Iterable[tuple[str, str]]) -> dict[str, str]:
    wait = retry_after(failure, received) if status in (429, 503) else None
    return {} if wait is None else {"retry-after": str(wait)}
