"""Sending requests to upstreams over pooled connections."""

import http.client
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from floway_core.config import Settings
from floway_core.contexts import ResponsesRequestContext
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from floway_core.provider import GeneratedBody, ReplyBody, UpstreamReply
from floway_core.upstream.body import READ_SIZE, SocketBody
from floway_core.upstream.wait import Readiness, watched_client


class HttpClient:
    """A pool of connections. Make one per provider; it serves all threads.

    It sends just what it is given: no redirects, cookies, ``netrc`` credentials, and no header of its own except
    ``host`` and ``content-length`` where the caller gives none. Proxies and CA bundles of the environment are honoured.
    """

    def __init__(self, settings: Settings) -> None:
        self._adapter = _WatchingAdapter(pool_connections=16, pool_maxsize=settings.threads, max_retries=0)
        self._timeouts = (settings.connect_timeout, settings.first_byte_timeout)
        self._environment: dict[str, dict[str, Any]] = {}

    def stream(
        self, ctx: ResponsesRequestContext, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> UpstreamReply:
        """Send a request and return when status and headers of the answer are there.

        Header order and spelling are kept. While waiting, the client of ``ctx`` is watched.

        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        :raises ClientGone: the client hung up; the request is abandoned.
        """
        token = watched_client.set(ctx.attempt.request.client)
        try:
            response = self._send(method, url, headers, body, self._timeouts)
        finally:
            watched_client.reset(token)
        received = [(name.lower(), value) for name, value in response.raw.headers.items()]
        return UpstreamReply(response.status_code, received, _body(response))

    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> requests.Response:
        """Send a request that does not belong to a client's, and read the whole answer.

        :param timeout: seconds, for connecting and for each read.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        """
        response = self._send(method, url, headers, body, (timeout, timeout))
        try:
            response.content  # noqa: B018 - reading it frees the connection
        except requests.RequestException as error:
            raise UpstreamUnreachable(f"The answer of {_origin(url)} ended early.") from error
        return response

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: tuple[float, float]
    ) -> requests.Response:
        origin = _origin(url)
        try:
            return self._adapter.send(
                _prepared(method, url, headers, body), stream=True, timeout=timeout, **self._environment_of(url)
            )
        except requests.Timeout as error:
            raise UpstreamTimeout(f"The upstream {origin} did not answer in time.") from error
        except requests.RequestException as error:
            raise UpstreamUnreachable(f"The upstream {origin} cannot be reached.") from error
        except ValueError as error:  # http.client refuses line breaks and what is beyond latin-1
            raise GatewayError(400, "A header of this request cannot be sent to the upstream.") from error

    def _environment_of(self, url: str) -> dict[str, Any]:
        """Proxies and CA bundle for ``url``: looked up once per origin, because it takes longer than sending."""
        origin = _origin(url)
        if origin not in self._environment:
            found = requests.Session().merge_environment_settings(url, {}, None, None, None)
            self._environment[origin] = {name: found[name] for name in ("proxies", "verify", "cert")}
        return self._environment[origin]


def _origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """A request made by hand: ``requests.Request.prepare`` would reorder headers and add its own."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = CaseInsensitiveDict({"accept-encoding": SKIP_HEADER, "user-agent": SKIP_HEADER})
    for name, value in headers.items():
        request.headers.pop(name, None)
        request.headers[name] = value
    request.headers.setdefault("host", urlsplit(url).netloc)
    if body is not None:
        request.headers.setdefault("content-length", str(len(body)))
    return request


def _body(response: requests.Response) -> ReplyBody:
    raw = response.raw
    head = raw._fp  # urllib3 hides it, but only here the body can be had as it arrives
    if isinstance(head, http.client.HTTPResponse) and head.fp and "content-encoding" not in raw.headers:
        return SocketBody(raw, head)
    return GeneratedBody(_decoded(raw), raw.close)


def _decoded(raw: HTTPResponse) -> Iterator[bytes]:
    """A body that came compressed although nobody asked for it: let urllib3 unpack it."""
    try:
        yield from raw.stream(READ_SIZE, decode_content=True)
    except HTTPError as error:
        raise UpstreamBroken("The upstream's answer ended early or is damaged.") from error


# ----------------------------------------------------------------------------- connections that watch for the client
class _Watching:
    """Before ``http.client`` blocks in reading the head of the answer, wait for it with an eye on the client."""

    def getresponse(self):
        client = watched_client.get()
        if client and self.sock and not Readiness(self.sock.fileno(), client).wait(self.timeout):
            raise TimeoutError
        return super().getresponse()


class _WatchingHTTP(_Watching, HTTPConnection):
    pass


class _WatchingHTTPS(_Watching, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchingHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchingHTTPS


class _WatchingAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
