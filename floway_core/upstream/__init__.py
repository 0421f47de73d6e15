"""HTTP towards upstreams: pooled connections, timeouts, streamed responses."""

from floway_core.upstream.http import HttpClient

__all__ = ["HttpClient"]
