"""Well-known paths of APIs that Floway does not serve, for helpful errors."""

SERVED = "Floway serves the Responses API: POST /v1/responses. Everything it serves is described at /openapi.json."

UNSERVED = {
    "/api/chat": "a model server's own API",
    "/api/embed": "a model server's own API",
    "/api/embeddings": "a model server's own API",
    "/api/generate": "a model server's own API",
    "/api/ps": "a model server's own API",
    "/api/show": "a model server's own API",
    "/api/tags": "a model server's own API",
    "/api/version": "a model server's own API",
    "/assistants": "the Assistants API",
    "/audio": "the Audio API",
    "/batches": "the Batch API",
    "/chat/completions": "Chat Completions",
    "/complete": "text completion",
    "/completions": "the Completions API",
    "/containers": "the Containers API",
    "/edits": "the Edits API",
    "/embeddings": "the Embeddings API",
    "/engines": "the Engines API",
    "/evals": "the Evals API",
    "/files": "the Files API",
    "/fine-tunes": "the Fine-tuning API",
    "/fine_tuning": "the Fine-tuning API",
    "/images": "the Images API",
    "/messages": "the Messages API",
    "/moderations": "the Moderations API",
    "/openai/deployments": "paths by deployment",
    "/organization": "the Administration API",
    "/realtime": "the Realtime API",
    "/rerank": "reranking",
    "/score": "scoring",
    "/threads": "the Assistants API",
    "/tokenize": "tokenizing",
    "/uploads": "the Uploads API",
    "/v1alpha": "the generateContent API",
    "/v1beta": "the generateContent API",
    "/vector_stores": "the Vector Stores API",
    "/videos": "the Videos API",
}
"""Prefixes of paths, with or without ``/v1`` before them, and the APIs that clients expect there. They are used only
when no route matches: a plugin that serves one of these APIs just registers its routes."""


def unserved_feature(path: str) -> str | None:
    """Return the API that a client expects at ``path``; None if the path is not well known."""
    segments = path.removeprefix("/v1/").strip("/").split("/")
    beginnings = ("/" + "/".join(segments[:length]) for length in (2, 1))
    return next((UNSERVED[beginning] for beginning in beginnings if beginning in UNSERVED), None)
