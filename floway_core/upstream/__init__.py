"""Requests to upstreams: pooled connections, timeouts, streamed, translated and generated response bodies."""

from floway_core.upstream.generated import GeneratedBody
from floway_core.upstream.http import HttpClient
from floway_core.upstream.translated import EventTranslator, TranslatedBody

__all__ = ["EventTranslator", "GeneratedBody", "HttpClient", "TranslatedBody"]
