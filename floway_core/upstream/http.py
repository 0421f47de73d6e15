"""Send requests to upstreams over pooled connections."""

import contextlib
import functools
import io
import logging
import re
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.util import SKIP_HEADER

from floway_core.contexts import ClientConnection, ResponsesRequestContext
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from floway_core.provider import ResponseBody, UpstreamResponse
from floway_core.receiving import READ_BYTES
from floway_core.settings import Settings
from floway_core.upstream import urllib3_pool
from floway_core.upstream.connection import UpstreamExchange
from floway_core.upstream.connection_pool import ConnectionPool, PooledConnection
from floway_core.upstream.decompression import DecompressedBody, decompress, split_codings

log = logging.getLogger("floway.upstream")

MAX_FETCHED_BYTES = 32 * 2**20
"""Limit for the response to a request that the gateway itself sends, after decompression."""

INVALID_HEADER = "A header of this request cannot be sent to the upstream."
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FORBIDDEN_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class _ClosedUnanswered(Exception):
    """A reused connection closed without a byte of response, so that the request may be sent once more."""


@dataclass(frozen=True)
class _Route:
    """How to reach a URL."""

    factory: HTTPConnectionPool
    """urllib3's pool, which opens the connections."""
    pool: ConnectionPool
    """Keeps the idle ones."""
    target: str
    """Target of the request line: a path, or a complete URL for a proxy."""
    host: str
    """Value of the ``host`` header."""
    origin: str
    """As of ``_origin``."""
    tunnelled: bool
    """Whether a proxy opens a tunnel, as it does for TLS."""

    def connect(self, timeout: float, *, fresh: bool = False) -> UpstreamExchange:
        """Take an idle connection from the pool, or open a new one.

        :param timeout: seconds for each step of connecting.
        :param fresh: whether it must be a new one.
        """
        if not fresh and (idle := self.pool.take()):
            return UpstreamExchange(idle, reused=True)
        connection = self.open(timeout)
        return UpstreamExchange(PooledConnection(connection, self.pool), reused=False)

    def open(self, timeout: float) -> HTTPConnection:
        """Open a new connection.

        :param timeout: seconds for each step of connecting.
        """
        connection = urllib3_pool.create(self.factory)
        urllib3_pool.connect(self.factory, connection, timeout, tunnelled=self.tunnelled)
        return connection


class HttpClient:
    """A pool of connections. Create one per provider; it serves all threads.

    It sends exactly the request of the caller: no redirects, cookies or ``netrc`` credentials, and no further headers
    except ``host`` and ``content-length`` if the caller sets none. It uses the environment's proxies and CA bundles.
    """

    def __init__(self, settings: Settings) -> None:
        self._adapter = HTTPAdapter(pool_connections=16, max_retries=0)
        self._pools: weakref.WeakKeyDictionary[HTTPConnectionPool, ConnectionPool] = weakref.WeakKeyDictionary()
        """By the factory of the connections: all paths of a server share them."""
        self._max_idle = settings.threads
        self._connect_timeout = settings.connect_timeout
        self._first_byte_timeout = settings.first_byte_timeout
        self._environment_for = functools.lru_cache(maxsize=256)(_read_environment)
        self._route_for = functools.lru_cache(maxsize=256)(self._find_route)

    def stream(
        self, ctx: ResponsesRequestContext, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> UpstreamResponse:
        """Send a request, and return when status and headers of the response have arrived.

        The order and spelling of headers do not change.

        :param ctx: names the client, which is watched while waiting.
        :returns: the response; its body is read as it arrives.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no response.
        :raises ClientDisconnected: the client disconnected; the request is abandoned.
        :raises GatewayError: a header is not valid HTTP.
        """
        route, client = self._route_for(url), ctx.attempt.request.client
        ctx.attempt.server = route.origin
        message = _encode_request(method, route, headers, body)
        try:
            exchange = self._send(route, url, message, client)
        except _ClosedUnanswered:
            log.info(
                "The upstream at %s closed a pooled connection without a response; sending the request again",
                _origin(url),
            )
            exchange = self._send(route, url, message, client, fresh=True)
        return UpstreamResponse(exchange.response.status, exchange.response.headers, _decode_body(exchange))

    def _send(
        self, route: _Route, url: str, message: bytes, client: ClientConnection | None, *, fresh: bool = False
    ) -> UpstreamExchange:
        """Send ``message`` and wait for the head of the response.

        :param fresh: whether the connection has to be a new one.
        :raises _ClosedUnanswered: a reused connection closed without a byte of response; a new one never raises it.
        """
        try:
            exchange = route.connect(self._connect_timeout, fresh=fresh)
        except (HTTPError, HTTPException, OSError) as error:
            raise _not_connected(url, error) from error
        has_answered = False
        try:
            exchange.send(message, client)
            exchange.receive_head(self._first_byte_timeout, client)
            has_answered = True
        except TimeoutError as error:
            raise _no_response(url, UpstreamTimeout, "did not answer in time") from error
        except (OSError, UpstreamBroken) as error:
            if exchange.may_resend(error):
                raise _ClosedUnanswered from error
            raise _no_response(url, UpstreamUnreachable, "closed the connection without an answer") from error
        finally:
            if not has_answered:
                exchange.close()
        return exchange

    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> requests.Response:
        """Send a request of the gateway itself, and read the complete response. Its content is decompressed.

        The order and spelling of headers do not change; ``host`` and ``content-length`` are added at the end.

        Such requests are rare, and some must not be sent twice (a refresh token works once). So each has a new
        connection: a reused one could close without a response.

        :param timeout: seconds, for each step of connecting, each read, and the content as a whole.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no response.
        :raises UpstreamBroken: its content is damaged, compressed in an unknown way, or longer than
            ``MAX_FETCHED_BYTES``.
        :raises GatewayError: a header is not valid HTTP.
        """
        request = _prepare_request(method, url, headers, body)
        deadline = time.monotonic() + timeout
        try:
            with contextlib.closing(HTTPAdapter(max_retries=0)) as adapter:
                response = adapter.send(request, stream=True, timeout=timeout, **self._environment_for(_origin(url)))
                codings = split_codings([response.headers.get("content-encoding", "")])
                # urllib3 decodes zstd with some versions of Python only
                content = decompress(_read_chunks(response.raw, deadline), codings, MAX_FETCHED_BYTES)
                response.raw = io.BytesIO(content)
        except (requests.Timeout, Urllib3Timeout, TimeoutError) as error:
            raise UpstreamTimeout(f"The upstream {_origin(url)} did not answer in time.") from error
        except (requests.RequestException, HTTPError) as error:
            raise UpstreamUnreachable(f"The upstream {_origin(url)} cannot be reached.") from error
        except ValueError:  # its message quotes the header, which may be secret
            raise GatewayError(400, INVALID_HEADER) from None
        return response

    def open_socket(self, url: str) -> socket.socket | None:
        """Open a connection for a protocol to which HTTP can be upgraded, with TLS for an ``https`` URL.

        It uses the proxies and CA bundles of all other requests. It belongs to the caller, and blocks.

        :returns: None if a proxy must be used that only supports HTTP.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no connection.
        """
        route = self._route_for(url)
        if route.factory.proxy is not None and not route.tunnelled:
            return None
        try:
            connection = route.open(self._connect_timeout)
        except (HTTPError, HTTPException, OSError) as error:
            raise _not_connected(url, error) from error
        connected_socket, connection.sock = connection.sock, None
        return cast(socket.socket, connected_socket)

    def _find_route(self, url: str) -> _Route:
        environment = self._environment_for(_origin(url))
        request = _prepare_request("GET", url, {}, None)
        factory = cast(HTTPConnectionPool, self._adapter.get_connection_with_tls_context(request, **environment))
        # types-requests has no annotations for this method.
        self._adapter.cert_verify(factory, url, environment["verify"], environment["cert"])  # type: ignore[no-untyped-call]
        target = requests.utils.requote_uri(self._adapter.request_url(request, environment["proxies"]))
        tunnelled = factory.proxy is not None and url.startswith("https:")
        pool = self._pools.get(factory)
        if pool is None:
            pool = self._pools.setdefault(factory, ConnectionPool(self._max_idle))
            weakref.finalize(factory, pool.close)
        return _Route(factory, pool, target, _host(url), _origin(url), tunnelled)


def _read_environment(origin: str) -> dict[str, Any]:
    """Read proxies and CA bundle for an origin. This takes longer than sending a request, so the client caches it."""
    settings: Mapping[str, Any] = requests.Session().merge_environment_settings(origin, {}, None, None, None)
    return {name: settings[name] for name in ("proxies", "verify", "cert")}


def _origin(url: str) -> str:
    """Return scheme, host and port of a URL, without credentials."""
    return f"{urlsplit(url).scheme}://{_host(url)}"


def _host(url: str) -> str:
    """Return host and port of a URL, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _read_chunks(raw: HTTPResponse, deadline: float) -> Iterator[bytes]:
    """Yield the bytes of a body as they arrive.

    :raises TimeoutError: it does not end before ``deadline``, in monotonic time.
    """
    while data := raw.read1(READ_BYTES, decode_content=False):
        yield data
        if time.monotonic() >= deadline:
            raise TimeoutError


def _not_connected(url: str, error: Exception) -> GatewayError:
    """Convert an exception of connecting to an error of the gateway."""
    if isinstance(error, Urllib3Timeout) and not isinstance(error, NewConnectionError):
        return _no_response(url, UpstreamTimeout, "did not answer in time")
    return _no_response(url, UpstreamUnreachable, "cannot be reached")


def _no_response(url: str, error_type: Callable[[str], GatewayError], problem: str) -> GatewayError:
    """Log a failure with the upstream's origin, and return the error for the client, without it."""
    log.warning("The upstream at %s %s", _origin(url), problem)
    return error_type(f"The upstream {problem}.")


def _encode_request(method: str, route: _Route, headers: Mapping[str, str], body: bytes) -> bytes:
    """Encode a request.

    :raises GatewayError: a header is not valid HTTP. The message does not quote it, because it may be secret.
    """
    if not route.tunnelled and route.factory.proxy_headers:
        headers = {**headers, **route.factory.proxy_headers}
    names, values = set(map(_check_name, headers)), "".join(headers.values())
    # Most values are printable ASCII, which takes a tenth of the time of the pattern.
    if not (values.isascii() and values.isprintable()) and FORBIDDEN_IN_VALUE.search(values):
        raise GatewayError(400, INVALID_HEADER)
    lines = [f"{method} {route.target} HTTP/1.1", *map(": ".join, headers.items())]
    if "host" not in names:
        lines.append(f"host: {route.host}")
    if "content-length" not in names and "transfer-encoding" not in names:
        lines.append(f"content-length: {len(body)}")
    lines.append("\r\n")
    try:
        return "\r\n".join(lines).encode("latin-1") + body
    except UnicodeEncodeError:
        raise GatewayError(400, INVALID_HEADER) from None


@functools.lru_cache(maxsize=1024)
def _check_name(name: str) -> str:
    """Return the name of a header in lower case.

    :raises GatewayError: it is not valid.
    """
    if not TOKEN.fullmatch(name):
        raise GatewayError(400, INVALID_HEADER)
    return name.lower()


def _prepare_request(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """Build a request directly: ``requests.Request.prepare`` and urllib3 would reorder headers and add some."""
    names = {name.lower() for name in headers}
    all_headers = {name: SKIP_HEADER for name in ("accept-encoding", "user-agent") if name not in names}
    all_headers |= headers
    if "host" not in names:
        all_headers["host"] = _host(url)
    if body is not None and "content-length" not in names:
        all_headers["content-length"] = str(len(body))
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = CaseInsensitiveDict(all_headers)
    return request


def _decode_body(exchange: UpstreamExchange) -> ResponseBody:
    encodings = [value for name, value in exchange.response.headers if name == "content-encoding"]
    codings = split_codings(encodings) if encodings else None
    try:
        return DecompressedBody(exchange, codings) if codings else exchange
    except UpstreamBroken:
        exchange.close()
        raise
