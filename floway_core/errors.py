"""The errors of the gateway, and the one place where an OpenAI error body is built."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from floway_core.protocol import headers, jsontext


class StartupError(Exception):
    """Floway cannot start. The message is one line for the operator: what is wrong and what mends it."""


class ClientGone(Exception):
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


class UpstreamRefused(GatewayError):
    """The upstream answered with a status that is not 2xx. The client gets that status, and what was said.

    An OpenAI error body is relayed byte for byte, because clients read more in it than the four usual fields. Other
    answers are put into that shape.
    """

    def __init__(self, status: int, received: Iterable[tuple[str, str]], content: bytes) -> None:
        """:param received: headers of the answer, names in lower case.
        :param content: its body.
        """
        try:
            told = jsontext.loads(content)
        except ValueError:
            told = None
        self._relayed = content if isinstance(told, dict) and isinstance(told.get("error"), dict) else None
        message = _message_in(told) or _words_of(content) or "The upstream gave no reason."
        # 3xx and the like are no answer a client could act on
        status = status if 400 <= status < 600 else 502
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(status)
        super().__init__(status, message, type=kind, code="upstream_refused")
        self.relayed_headers = headers.of_upstream(received)

    def content(self) -> bytes:
        return super().content() if self._relayed is None else self._relayed


def _message_in(told: Any) -> str | None:
    """The sentence in a JSON error of another shape: ``{"detail": ...}``, ``{"message": ...}``, ``{"error": ...}``."""
    if isinstance(told, dict):
        for key in ("detail", "message", "error"):
            if isinstance(told.get(key), str) and told[key]:
                return told[key]
    return None


def _words_of(content: bytes) -> str:
    """The visible beginning of a page of HTML or text."""
    page = content[:20_000].decode("utf-8", "replace")
    page = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", page)
    return " ".join(html.unescape(page).split())[:500]
