"""A collector for tests: an OTLP receiver on loopback that decodes what arrives, and can hang or refuse."""

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_SECONDS = 20.0
"""Time to wait for telemetry; only a failing test waits as long."""

KINDS = {2: "SERVER", 3: "CLIENT"}


class Collector:
    """A running collector. A context manager."""

    def __init__(self) -> None:
        self.status = 200
        """With which it answers."""
        self.release = threading.Event()
        """Clear it to let all requests hang."""
        self.release.set()
        self.requests = []
        """(path, headers, body) of each, also of those that hang."""
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._server.server_address)

    def take(self, path, headers, body) -> None:
        with self._changed:
            self.requests.append((path, headers, body))
            self._changed.notify_all()
        self.release.wait(PATIENCE_SECONDS)

    def wait_for(self, condition: Callable[[], object]) -> object:
        """Wait until ``condition``, which looks at what has arrived, holds; return its value."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while not (value := condition()):
                assert self._changed.wait(deadline - time.monotonic()), (condition, self.spans())
        return value

    def _received(self, path, message):
        return [message.FromString(body) for where, _, body in self.requests if where == path]

    def spans(self):
        """All spans that have arrived, as ``simplified``."""
        return [
            simplified(span, resource_spans.resource)
            for request in self._received("/v1/traces", ExportTraceServiceRequest)
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]

    def spans_of(self, answer):
        """Wait for the spans of the request with this answer: those of its attempts, then its own."""
        request_id = answer.headers["x-request-id"]

        def find():
            spans = self.spans()
            own = next((span for span in spans if span["attributes"].get("floway.request.id") == request_id), None)
            return own and [*(span for span in spans if span["parent"] == own["id"]), own]

        return self.wait_for(find)

    def metrics(self):
        """All metrics that have arrived: (name, data points) of each."""
        return [
            (metric.name, metric.histogram)
            for request in self._received("/v1/metrics", ExportMetricsServiceRequest)
            for resource_metrics in request.resource_metrics
            for scope_metrics in resource_metrics.scope_metrics
            for metric in scope_metrics.metrics
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(collector):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, dict(self.headers), body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


def value_of(encoded):
    """The value of an attribute."""
    kind = encoded.WhichOneof("value")
    return (
        [value_of(value) for value in encoded.array_value.values] if kind == "array_value" else getattr(encoded, kind)
    )


def attributes_of(message):
    return {attribute.key: value_of(attribute.value) for attribute in message.attributes}


def simplified(span, resource):
    """A span with plain values."""
    return {
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": KINDS[span.kind],
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes_of(span),
        "events": [(event.name, event.time_unix_nano) for event in span.events],
        "failed": span.status.code == span.status.STATUS_CODE_ERROR,
        "state": span.trace_state,
        "resource": attributes_of(resource),
    }
