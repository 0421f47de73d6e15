"""Sending requests to upstreams over pooled connections."""

import functools
import http.client
import io
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.util import SKIP_HEADER, Timeout

from floway_core.config import Settings
from floway_core.contexts import ResponsesRequestContext
from floway_core.errors import ClientGone, GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from floway_core.provider import GeneratedBody, ReplyBody, UpstreamReply
from floway_core.upstream.body import READ_SIZE, SocketBody, WatchedFile
from floway_core.upstream.wait import watched_client

HEADER_REFUSED = "A header of this request cannot be sent to the upstream."


class HttpClient:
    """A pool of connections. Make one per provider; it serves all threads.

    It sends just what it is given: no redirects, cookies, ``netrc`` credentials, and no header of its own except
    ``host`` and ``content-length`` where the caller gives none. Proxies and CA bundles of the environment are honoured.
    """

    def __init__(self, settings: Settings) -> None:
        self._adapter = _WatchingAdapter(pool_connections=16, pool_maxsize=settings.threads, max_retries=0)
        self._timeout = Timeout(connect=settings.connect_timeout, read=settings.first_byte_timeout)
        self._environment_of = functools.lru_cache(maxsize=256)(_environment_of)
        self._way_to = functools.lru_cache(maxsize=256)(self._find_way_to)

    def stream(
        self, ctx: ResponsesRequestContext, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> UpstreamReply:
        """Send a request and return when status and headers of the answer are there.

        Header order and spelling are kept. While waiting, the client of ``ctx`` is watched.

        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        :raises ClientGone: the client hung up; the request is abandoned.
        """
        pool, target = self._way_to(url)
        token = watched_client.set(ctx.attempt.request.client)
        try:
            # What the adapter's send() does, without looking everything up again for each request.
            response = pool.urlopen(
                method,
                target,
                body,
                _complete(url, headers, body),
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout,
                preload_content=False,
                decode_content=False,
            )
        except NewConnectionError as error:
            raise UpstreamUnreachable(f"The upstream {_origin(url)} cannot be reached.") from error
        except Urllib3Timeout as error:
            raise UpstreamTimeout(f"The upstream {_origin(url)} did not answer in time.") from error
        except ProtocolError as error:
            raise UpstreamUnreachable(
                f"The upstream {_origin(url)} closed the connection without an answer."
            ) from error
        except (HTTPError, OSError) as error:
            raise UpstreamUnreachable(f"The upstream {_origin(url)} cannot be reached.") from error
        except ValueError:  # http.client refuses line breaks and what is beyond latin-1
            raise GatewayError(400, HEADER_REFUSED) from None
        finally:
            watched_client.reset(token)
        received = [(name.lower(), value) for name, value in response.headers.items()]
        return UpstreamReply(response.status, received, _body(response))

    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> requests.Response:
        """Send a request that does not belong to a client's, and read the whole answer.

        :param timeout: seconds, for connecting and for each read.
        :raises UpstreamUnreachable, UpstreamTimeout: there is no answer.
        """
        request = _prepared(method, url, _complete(url, headers, body), body)
        try:
            response = self._adapter.send(request, timeout=timeout, **self._environment_of(_origin(url)))
            response.content  # noqa: B018 - reading it frees the connection
        except requests.Timeout as error:
            raise UpstreamTimeout(f"The upstream {_origin(url)} did not answer in time.") from error
        except requests.RequestException as error:
            raise UpstreamUnreachable(f"The upstream {_origin(url)} cannot be reached.") from error
        except ValueError:  # its message quotes the header, which may be a secret
            raise GatewayError(400, HEADER_REFUSED) from None
        return response

    def _find_way_to(self, url: str) -> tuple[HTTPConnectionPool, str]:
        """The pool of connections for ``url``, as the adapter sets it up, and what to ask for on one of them."""
        environment = self._environment_of(_origin(url))
        request = _prepared("GET", url, {}, None)
        pool = self._adapter.get_connection_with_tls_context(request, **environment)
        self._adapter.cert_verify(pool, url, environment["verify"], environment["cert"])
        return pool, self._adapter.request_url(request, environment["proxies"])


def _environment_of(origin: str) -> dict[str, Any]:
    """Proxies and CA bundle for an origin: looked up once, because it takes longer than sending."""
    found = requests.Session().merge_environment_settings(origin, {}, None, None, None)
    return {name: found[name] for name in ("proxies", "verify", "cert")}


def _origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _complete(url: str, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """``headers`` with those that a request cannot do without, and none that urllib3 would add."""
    names = {name.lower() for name in headers}
    complete = {name: SKIP_HEADER for name in ("accept-encoding", "user-agent") if name not in names}
    complete |= headers
    if "host" not in names:
        complete["host"] = urlsplit(url).netloc
    if body is not None and "content-length" not in names:
        complete["content-length"] = str(len(body))
    return complete


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """A request made by hand: ``requests.Request.prepare`` would reorder headers and add its own."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = CaseInsensitiveDict(headers)
    return request


def _body(response: HTTPResponse) -> ReplyBody:
    head = response._fp  # urllib3 hides it, but only here the body can be had as it arrives
    if isinstance(head, _Answer) and head.fp and "content-encoding" not in response.headers:
        return SocketBody(response, head)
    return GeneratedBody(_decoded(response), response.close)


def _decoded(response: HTTPResponse) -> Iterator[bytes]:
    """A body that came compressed although nobody asked for it: let urllib3 unpack it."""
    try:
        yield from response.stream(READ_SIZE, decode_content=True)
    except HTTPError as error:
        raise UpstreamBroken("The upstream's answer ended early or is damaged.") from error


# ----------------------------------------------------------------------------- connections that watch for the client
SEND_TIMEOUT = 60.0
"""Seconds that an upstream may take to accept one piece of a request."""

SENT_AT_ONCE = 256 * 1024
"""Bytes of a request that are sent before looking after the client."""


class _Answer(http.client.HTTPResponse):
    """Reads the head of an answer with an eye on the client, and skips interim answers, of which ``http.client`` only
    knows 100: what follows a 103 would be taken for the answer to the next request."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(WatchedFile(self.fp.detach(), sock, watched_client.get()))

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()
        interim = 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if interim else status, reason


class _Watching:
    """Head and body leave in one packet, where ``http.client`` would send two, and the connect timeout does not limit
    the time that sending takes."""

    response_class = _Answer
    _head: bytes | None = None

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        self._head = b""
        super().endheaders(*args, **kwargs)

    def send(self, data: bytes) -> None:
        if self._head == b"":
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, None
        if self.sock is None:
            self.connect()
        self.sock.settimeout(SEND_TIMEOUT)
        client, whole = watched_client.get(), memoryview(data)
        for start in range(0, len(whole), SENT_AT_ONCE):
            if start and client and client.gone():
                raise ClientGone
            self.sock.sendall(whole[start : start + SENT_AT_ONCE])

    def getresponse(self):
        if self._head:
            self.send(b"")  # there was no body
        return super().getresponse()


class _WatchingHTTP(_Watching, HTTPConnection):
    pass


class _WatchingHTTPS(_Watching, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchingHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchingHTTPS


POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class _WatchingAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager
