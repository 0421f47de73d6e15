"""Error responses to requests that do not reach the application, in the probable dialect of the client."""

from dataclasses import dataclass
from http.client import responses
from urllib.parse import parse_qsl, unquote

from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)

from floway_core.errors import GatewayError
from floway_core.runtime.dialects import Dialects

ERROR_RESPONSES: dict[type[Exception], tuple[int, str]] = {
    LimitRequestLine: (414, "The request line is too long."),
    LimitRequestHeaders: (431, "The headers are too many or too large."),
    ExpectationFailed: (417, "The expectation in this request cannot be met."),
    UnsupportedTransferCoding: (501, "The transfer-encoding of this request is not supported."),
    ParseException: (400, "The request is not valid HTTP."),
    Exception: (500, "The gateway failed to serve this request."),
}


@dataclass(frozen=True)
class RequestOutline:
    """The parts of a request that identify its dialect, as far as they can be read. The request may be invalid."""

    path: str = ""
    header_names: frozenset[str] = frozenset()
    """In lower case."""
    query_names: frozenset[str] = frozenset()


def read_outline(data: bytes) -> RequestOutline:
    """Read the outline of a request.

    :param data: the bytes that have arrived.
    """
    head = data.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1")
    request_line, *lines = head.split("\n")
    words = request_line.split()
    target, _, query = (words[1] if len(words) > 1 else "").partition("?")
    if "://" in target:  # not parsed as a URL: it may be none
        target = "/" + target.partition("://")[2].partition("/")[2]
    return RequestOutline(
        unquote(target),
        frozenset(line.partition(":")[0].strip().lower() for line in lines if ":" in line),
        frozenset(name for name, _ in parse_qsl(query, keep_blank_values=True)),
    )


def error_response(error: Exception, request_id: str, dialects: Dialects, outline: RequestOutline) -> bytes:
    """Encode the response to a request that did not reach the application.

    It does not quote the request, because a request that cannot be parsed may contain a key.

    :param error: a ``GatewayError`` is sent unchanged.
    """
    if not isinstance(error, GatewayError):
        status, message = next(row for kind, row in ERROR_RESPONSES.items() if isinstance(error, kind))
        error = GatewayError(status, message, code="invalid_http" if status < 500 else None)
    dialect = dialects.for_error(outline.path, outline.header_names, outline.query_names)
    answer = dialects.encode_error(dialect, error, request_id)
    head = {
        "connection": "close",
        "content-type": answer.content_type,
        "x-request-id": request_id,
        **({dialect.request_id_header: request_id} if dialect.request_id_header else {}),
        **error.headers,
        **answer.headers,
        "content-length": str(len(answer.content)),
    }
    reason = responses.get(answer.status, "")
    lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + answer.content
