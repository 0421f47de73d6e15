"""Find the provider of an upstream, as the conventions name it, and the address of its server."""

import functools
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GenAiProviderNameValues as Names

BY_HOST = {
    "anthropic.com": Names.ANTHROPIC,
    "chatgpt.com": Names.OPENAI,
    "cohere.com": Names.COHERE,
    "deepseek.com": Names.DEEPSEEK,
    "generativelanguage.googleapis.com": Names.GCP_GEMINI,
    "aiplatform.googleapis.com": Names.GCP_VERTEX_AI,
    "groq.com": Names.GROQ,
    "mistral.ai": Names.MISTRAL_AI,
    "openai.azure.com": Names.AZURE_AI_OPENAI,
    "openai.com": Names.OPENAI,
    "perplexity.ai": Names.PERPLEXITY,
    "x.ai": Names.X_AI,
}
"""By the end of the host name."""

BY_KIND = {
    "anthropic": Names.ANTHROPIC,
    "codex": Names.OPENAI,
    "gemini": Names.GCP_GEMINI,
    "openai": Names.OPENAI,
}
"""By the kind of the upstream, for other hosts. Other kinds are used as the name."""

DEFAULT_PORTS = {"http": 80, "https": 443}


class Server(NamedTuple):
    """The server of an upstream."""

    provider: str
    """The name in the conventions."""
    address: str | None
    """The host; None if it is not known."""
    port: int | None


@functools.lru_cache(maxsize=1024)
def find_server(kind: str, url: str | None) -> Server:
    """Return the server of an upstream.

    :param kind: the kind of the upstream.
    :param url: scheme, host and port; None if nothing was sent or the URL is unknown.
    """
    parts = urlsplit(url or "")
    host = parts.hostname
    by_host = next((name for end, name in BY_HOST.items() if f".{host}".endswith(f".{end}")), None)
    provider = by_host or BY_KIND.get(kind)
    port = (parts.port or DEFAULT_PORTS.get(parts.scheme)) if host else None
    return Server(provider.value if provider else kind, host, port)
