"""Sending requests to upstreams over pooled connections."""

import contextlib
import functools
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.util import SKIP_HEADER

from floway_core.contexts import ClientConnection, ResponsesRequestContext
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from floway_core.provider import ResponseBody, UpstreamResponse
from floway_core.settings import Settings
from floway_core.upstream.connection import UpstreamExchange

log = logging.getLogger("floway.upstream")

HEADER_REFUSED = "A header of this request cannot be sent to the upstream."
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
UNFIT_FOR_A_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class _Swallowed(Exception):
    """A connection from the pool took a request and closed without a byte of answer: it may be sent once more."""


@dataclass(frozen=True)
class _Route:
    """How to reach a URL."""

    pool: HTTPConnectionPool
    target: str
    """What to ask for on one of its connections."""
    host: str
    tunnelled: bool
    """Whether a proxy passes everything on unread, as it has to for TLS."""

    def connect(self, timeout: float, *, fresh: bool = False) -> UpstreamExchange:
        """A connection that is kept from an earlier request, or a new one.

        :param timeout: seconds for each step of connecting.
        :param fresh: whether it has to be a new one.
        """
        connection = self.pool._get_conn()
        if fresh:
            connection.close()  # what is behind it in the pool may be as stale
        reused = not connection.is_closed
        if not reused:
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(connection.close)
                connection.timeout = timeout
                if self.tunnelled:
                    self.pool._prepare_proxy(connection)
                self.pool._validate_conn(connection)
                if connection.is_closed:
                    connection.connect()
                on_failure.pop_all()
        connection.sock.settimeout(0)
        return UpstreamExchange(self.pool, connection, reused=reused)


class HttpClient:
    """A pool of connections. Make one per provider; it serves all threads.

    It sends just what it is given: no redirects, cookies, ``netrc`` credentials, and no header of its own except
    ``host`` and ``content-length`` where the caller gives none. Proxies and CA bundles of the environment are honoured.
    """

    def __init__(self, settings: Settings) -> None:
        self._adapter = HTTPAdapter(pool_connections=16, pool_maxsize=settings.threads, max_retries=0)
        self._connect_timeout = settings.connect_timeout
        self._first_byte_timeout = settings.first_byte_timeout
        self._environment_of = functools.lru_cache(maxsize=256)(_environment_of)
        self._route_for = functools.lru_cache(maxsize=256)(self._find_route)

    def stream(
        self, ctx: ResponsesRequestContext, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> UpstreamResponse:
        """Send a request and return when status and headers of the answer are there.

        Header order and spelling are kept. While waiting, the client of ``ctx`` is watched.

        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        :raises ClientDisconnected: the client hung up; the request is abandoned.
        """
        route, client = self._route_for(url), ctx.attempt.request.client
        message = _message(method, route, headers, body)
        try:
            exchange = self._send(route, url, message, client)
        except _Swallowed:
            log.info(
                "The upstream at %s closed a pooled connection unanswered; the request goes out again", _origin(url)
            )
            exchange = self._send(route, url, message, client, fresh=True)
        return UpstreamResponse(exchange.answer.status, exchange.answer.headers, _readable(exchange))

    def _send(
        self, route: _Route, url: str, message: bytes, client: ClientConnection | None, *, fresh: bool = False
    ) -> UpstreamExchange:
        """Send ``message`` and wait for the head of the answer.

        :param fresh: whether the connection has to be a new one.
        :raises _Swallowed: a connection from the pool closed without a byte of answer; a new one never raises it.
        """
        try:
            exchange = route.connect(self._connect_timeout, fresh=fresh)
        except (HTTPError, HTTPException, OSError) as error:
            if isinstance(error, Urllib3Timeout) and not isinstance(error, NewConnectionError):
                raise _unanswered(url, UpstreamTimeout, "did not answer in time") from error
            raise _unanswered(url, UpstreamUnreachable, "cannot be reached") from error
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(exchange.close)
            try:
                exchange.send(message, client)
                exchange.receive_head(self._first_byte_timeout, client)
            except TimeoutError as error:
                raise _unanswered(url, UpstreamTimeout, "did not answer in time") from error
            except (OSError, UpstreamBroken) as error:
                if exchange.was_swallowed(error):
                    raise _Swallowed from error
                raise _unanswered(url, UpstreamUnreachable, "closed the connection without an answer") from error
            on_failure.pop_all()
        return exchange

    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> requests.Response:
        """Send a request that does not belong to a client's, and read the whole answer.

        Such requests are rare, and some must not be sent twice (a refresh token works once). So each has a connection
        of its own: an old one could swallow it.

        :param timeout: seconds, for connecting and for each read.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        """
        request = _prepared(method, url, headers, body)
        try:
            with contextlib.closing(HTTPAdapter(max_retries=0)) as adapter:
                response = adapter.send(request, timeout=timeout, **self._environment_of(_origin(url)))
                response.content  # noqa: B018 - reads it
        except requests.Timeout as error:
            raise UpstreamTimeout(f"The upstream {_origin(url)} did not answer in time.") from error
        except requests.RequestException as error:
            raise UpstreamUnreachable(f"The upstream {_origin(url)} cannot be reached.") from error
        except ValueError:  # its message quotes the header, which may be a secret
            raise GatewayError(400, HEADER_REFUSED) from None
        return response

    def _find_route(self, url: str) -> _Route:
        environment = self._environment_of(_origin(url))
        request = _prepared("GET", url, {}, None)
        pool = self._adapter.get_connection_with_tls_context(request, **environment)
        self._adapter.cert_verify(pool, url, environment["verify"], environment["cert"])
        target = requests.utils.requote_uri(self._adapter.request_url(request, environment["proxies"]))
        tunnelled = pool.proxy is not None and url.startswith("https:")
        return _Route(pool, target, urlsplit(url).netloc, tunnelled)


def _environment_of(origin: str) -> dict[str, Any]:
    """Proxies and CA bundle for an origin: looked up once, because it takes longer than sending."""
    found = requests.Session().merge_environment_settings(origin, {}, None, None, None)
    return {name: found[name] for name in ("proxies", "verify", "cert")}


def _origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _unanswered(url: str, kind: type[GatewayError], what: str) -> GatewayError:
    """The failure as the client is told. Where the upstream is stands in the log, for the operator."""
    log.warning("The upstream at %s %s", _origin(url), what)
    return kind(f"The upstream {what}.")


def _message(method: str, route: _Route, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole request as it is sent.

    :raises GatewayError: a header cannot be sent; the message does not quote it, as it may be a secret.
    """
    lines = [f"{method} {route.target} HTTP/1.1"]
    if not route.tunnelled:
        headers = {**headers, **route.pool.proxy_headers}
    names = {name.lower() for name in headers}
    if not all(map(_is_token, headers)) or UNFIT_FOR_A_VALUE.search("".join(headers.values())):
        raise GatewayError(400, HEADER_REFUSED)
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "host" not in names:
        lines.append(f"host: {route.host}")
    if "content-length" not in names and "transfer-encoding" not in names:
        lines.append(f"content-length: {len(body)}")
    try:
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body
    except UnicodeEncodeError:
        raise GatewayError(400, HEADER_REFUSED) from None


@functools.lru_cache(maxsize=1024)
def _is_token(name: str) -> bool:
    return TOKEN.fullmatch(name) is not None


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """A request made by hand: ``requests.Request.prepare`` and urllib3 would reorder headers and add their own."""
    names = {name.lower() for name in headers}
    complete = {name: SKIP_HEADER for name in ("accept-encoding", "user-agent") if name not in names}
    complete |= headers
    if body is not None and "content-length" not in names:
        complete["content-length"] = str(len(body))
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = CaseInsensitiveDict(complete)
    return request


def _readable(exchange: UpstreamExchange) -> ResponseBody:
    codings = {value.lower() for name, value in exchange.answer.headers if name == "content-encoding"}
    return _Unpacked(exchange) if codings - {"identity", ""} else exchange


class _Unpacked(ResponseBody):
    """A body that came compressed although nobody asked for it."""

    def __init__(self, packed: ResponseBody) -> None:
        self._packed = packed
        self._decoder = zlib.decompressobj(32 + zlib.MAX_WBITS)  # finds out whether it is gzip or deflate

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        while data := self._packed.read(timeout, client):
            if unpacked := self._decompress(data):
                return unpacked
        if data == b"" and not self._decoder.eof:
            raise UpstreamBroken("The upstream's answer ended early.")
        return data

    def _decompress(self, data: bytes) -> bytes:
        """gzip may come in several members: some servers make one of each piece that they send."""
        unpacked = b""
        while data:
            if self._decoder.eof:
                self._decoder = zlib.decompressobj(32 + zlib.MAX_WBITS)
            try:
                unpacked += self._decoder.decompress(data)
            except zlib.error as error:
                raise UpstreamBroken("The upstream's answer is damaged or compressed in an unknown route.") from error
            data = self._decoder.unused_data
        return unpacked

    def close(self) -> None:
        self._packed.close()
