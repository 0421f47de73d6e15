"""HTTP towards upstreams: pooled connections, timeouts, streamed responses; and bodies that a provider makes."""

from floway_core.upstream.generated import GeneratedBody
from floway_core.upstream.http import HttpClient
from floway_core.upstream.translated import TranslatedBody

__all__ = ["GeneratedBody", "HttpClient", "TranslatedBody"]
