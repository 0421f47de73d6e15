"""Forward requests of other APIs to an upstream that serves their model, and return its answer byte for byte."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from floway_core.contexts import AttemptContext, ClientConnection, ClientRequest, DialectRequest, ForwardContext
from floway_core.engine import account
from floway_core.engine.attempt import read_refusal
from floway_core.engine.client_stream import ClientStream, StreamState
from floway_core.engine.fallback import find_fallbacks, record_failure, refuses_account
from floway_core.engine.routing import Candidate, find_candidates, find_upstreams, with_known_price
from floway_core.engine.trace import AttemptTrace, RequestTrace
from floway_core.engine.upstream_body import UpstreamBytes
from floway_core.errors import AccountRefused, ClientDisconnected, GatewayError, ShuttingDown, UpstreamRefused
from floway_core.protocol.forwarded_answer import ForwardedAnswer
from floway_core.provider import MAX_DISPATCHES, ForwardedPath, Model, Provider, UpstreamResponse
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import call_plugin, check_response

log = logging.getLogger("floway.engine")

READ_SECONDS = 15.0
"""How long one step waits in a thread."""

CLIENT_HEADERS = ("content-type", "accept")
"""Headers of the client that reach the upstream."""


@dataclass(frozen=True)
class ForwardedRequest:
    """A client's request of another API than the Responses API."""

    client_request: ClientRequest
    """Its ``body`` is empty."""
    original: DialectRequest
    path: ForwardedPath
    model: str | None
    """The requested model, or the default of the path; None if there is none."""
    content_for: Callable[[str], bytes]
    """Returns the body with another name of the model."""


class ForwardedStream(ClientStream):
    """The bytes of an answer while they arrive. If it breaks off, the client's connection is closed."""

    def __init__(self, gateway: Gateway, upstream: str, response: UpstreamResponse, client: ClientConnection) -> None:
        """:param upstream: its name, for the log."""
        self.events = ForwardedAnswer()
        super().__init__(self.events)
        self.headers = response.headers
        self._upstream = upstream
        self._body = response.body
        self._source = UpstreamBytes(gateway.settings, response, upstream, client)
        self._error: GatewayError | None = None

    def fileno(self) -> int | None:
        """Return the body's descriptor."""
        return self._body.fileno()

    def _step(self, wait: bool) -> bytes:
        if self.state is StreamState.NEEDS_THREAD:
            self._end()
            if self._error:
                raise ConnectionAbortedError(self._error.message)
        if self.state is not StreamState.WAITING:
            return b""
        try:
            data = self._source.read(READ_SECONDS if wait else 0.0)
        except ClientDisconnected:
            self.state = StreamState.ENDED
            return b""
        except GatewayError as error:
            log.warning("The answer of upstream %s broke off: %s", self._upstream, error.message)
            self.events.fail(error.code or error.type, error.message)
            self._error, self.state = error, StreamState.NEEDS_THREAD
            return b""
        self.events.feed(data)
        if self._source.has_ended:
            self.events.end()
            self.state = StreamState.NEEDS_THREAD
        return data

    def _release(self) -> None:
        self._body.close()


def forward(gateway: Gateway, request: ForwardedRequest, trace: RequestTrace) -> ForwardedStream:
    """Have an upstream answer a request of another API.

    :param trace: records the attempts.
    :raises GatewayError: no upstream serves the model or forwards the path, or the upstreams refused or failed.
    :raises ClientDisconnected: the client disconnected meanwhile.
    """
    remaining = _find_candidates(gateway, request)
    while True:
        candidate, *remaining = remaining
        trace.attempts.append(AttemptTrace(candidate))
        try:
            response = _attempt(gateway, request, candidate, trace)
            break
        except ShuttingDown:
            raise
        except GatewayError as error:
            trace.end_attempt(error.code or error.type)
            remaining = find_fallbacks(error, candidate, remaining)
            record_failure(gateway, trace, candidate, error, remaining)
            if not remaining:
                if refuses_account(error):
                    raise AccountRefused(candidate.upstream.name, error.status) from error
                raise
    stream = ForwardedStream(gateway, candidate.upstream.name, response, request.client_request.client)
    trace.events = stream.events
    return stream


def _find_candidates(gateway: Gateway, request: ForwardedRequest) -> list[Candidate]:
    """Return the candidates for a request, in the order in which they are tried. There is at least one.

    :raises GatewayError: 404, there is none.
    """
    path, key = request.path, request.client_request.api_key
    if request.model is None:
        candidates = [Candidate(upstream, Model(path.path, "")) for upstream in find_upstreams(gateway, key)]
        if not path.describes_account:
            candidates = with_known_price(gateway, key, path.path, candidates)
    else:
        candidates = find_candidates(gateway, key, request.model)
    capable = [
        candidate for candidate in candidates if _forwards(gateway.providers.by_kind[candidate.upstream.kind], path)
    ]
    if capable:
        return capable
    message = f"No upstream that serves this request forwards {path.method} {path.path}."
    if request.model is not None:
        message = f"No upstream of the model {request.model} forwards {path.method} {path.path}."
    raise GatewayError(404, message, code="unsupported_endpoint", param=None if request.model is None else "model")


def _forwards(provider: Provider, path: ForwardedPath) -> bool:
    return any((forwarded.method, forwarded.path) == (path.method, path.path) for forwarded in provider.forwarded_paths)


def _attempt(
    gateway: Gateway, request: ForwardedRequest, candidate: Candidate, trace: RequestTrace
) -> UpstreamResponse:
    """Send the request to the upstream of ``candidate`` until it is accepted. The caller closes the body.

    :raises GatewayError: the upstream refused the request or cannot be reached.
    """
    provider = gateway.providers.by_kind[candidate.upstream.kind]
    context = AttemptContext(
        id=f"{request.client_request.id}.{len(trace.attempts)}",
        request=request.client_request,
        upstream=candidate.upstream,
        provider=provider,
        model=candidate.upstream_name,
    )
    trace.attempts[-1].context = context
    for number in range(1, MAX_DISPATCHES + 1):
        dispatch = _dispatch(request, context, number)
        trace.attempts[-1].dispatched.append(time.monotonic())
        response = call_plugin(context, "forward", _forward, provider, dispatch)
        trace.attempts[-1].status = response.status
        if 200 <= response.status < 300:
            gateway.account_refusals.pop(context.upstream.id, None)
            return account.filter_response(provider, context, response)
        trace.failures.append((candidate, str(response.status)))
        refusal = call_plugin(context, "ResponseBody.read", read_refusal, context, response)
        if not call_plugin(context, "handle_error_response", provider.handle_error_response, dispatch, refusal):
            break
    refusal = account.filter_error_response(provider, context, refusal)
    raise UpstreamRefused(refusal.status, refusal.headers, refusal.content)


def _forward(provider: Provider, dispatch: ForwardContext) -> UpstreamResponse:
    return check_response(provider.forward(dispatch))


def _dispatch(request: ForwardedRequest, context: AttemptContext, number: int) -> ForwardContext:
    query, headers = urlencode(request.original.query), request.client_request.headers
    return ForwardContext(
        attempt=context,
        dispatch=number,
        body={},
        headers={name: headers[name] for name in CLIENT_HEADERS if name in headers},
        method=request.path.method,
        target=request.path.path + (f"?{query}" if query else ""),
        content=request.content_for(context.model) if request.model is not None else request.original.raw,
    )
