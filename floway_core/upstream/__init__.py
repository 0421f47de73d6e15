"""The way to an upstream: pooled HTTP connections, timeouts, streamed answers."""

from floway_core.upstream.http import HttpClient

__all__ = ["HttpClient"]
