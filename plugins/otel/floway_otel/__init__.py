"""Traces and metrics of requests for OpenTelemetry: an observer, for upstreams of all kinds."""

__version__ = "0.1.0"
