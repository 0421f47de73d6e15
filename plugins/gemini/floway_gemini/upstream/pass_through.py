"""Pass requests of generateContent API clients through to upstreams of the same API."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from floway_core.contexts import DialectRequest, ResponsesRequestContext
from floway_core.protocol import jsontext
from floway_gemini import thoughts
from floway_gemini.client.requests import request_body
from floway_gemini.fields import find

Part = dict[str, Any]

CLIENT_HEADER = "x-goog-api-client"
"""The client's header that the upstream gets: it names the SDK."""

MISSING_SIGNATURE = "skip_thought_signature_validator"
"""Sent if the upstream demands a signature that is missing. Source: the page "Thought signatures" of Google's
documentation."""

_GENERATION = re.compile(r"gemini-(\d+)")
_SPELLINGS = ("thoughtSignature", "thought_signature")


def is_overridden(ctx: ResponsesRequestContext) -> bool:
    """Return whether an alias has changed fields of the request.

    They are fields of the Responses API, so they cannot be changed in the client's original request.
    """
    original = ctx.attempt.request.body
    return any(original.get(name) != value for name, value in ctx.body.items() if name not in ("model", "input"))


def path_of(model: str, verb: str) -> str:
    """Return the path of a request to an upstream."""
    return f"/v1beta/models/{quote(model, safe='/')}:{verb}"


def upstream_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a client that the upstream gets."""
    return {CLIENT_HEADER: headers[CLIENT_HEADER]} if CLIENT_HEADER in headers else {}


def query_string(request: DialectRequest, *, streams: bool) -> str:
    """Return the query for the upstream with its question mark; ``""`` if it has none.

    Streams are always requested as events. The gateway converts them for a client that wants an array.
    """
    query = {
        **{name: value for name, value in request.query.items() if name != "alt"},
        **({"alt": "sse"} if streams else {}),
    }
    return f"?{urlencode(query)}" if query else ""


def write_body(request: DialectRequest, model: str) -> bytes:
    """Return the body for the upstream: the client's bytes if nothing has to change.

    :param model: the name that the upstream uses. Only requests that count tokens have a model in the body.
    """
    inner = request_body(request)
    cleaned = without_foreign_signatures(inner, model) if thoughts.MARK in request.raw else inner
    model_field = inner.get("model")
    if isinstance(model_field, str) and model_field.removeprefix("models/") != model:
        cleaned = {**cleaned, "model": f"models/{model}"}
    if cleaned is inner:
        return request.raw
    if inner is request.body:
        return jsontext.dumps(cleaned)
    field = next(name for name, value in request.body.items() if value is inner)
    return jsontext.dumps({**request.body, field: cleaned})


def without_foreign_signatures(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a request without the reasoning of other upstreams, which this one would refuse.

    Translated signatures of upstreams of this kind get their original form.
    """
    contents = find(body, "contents")
    if not isinstance(contents, list):
        return body
    field = next(name for name, value in body.items() if value is contents)
    return {**body, field: [_clean_content(content, model) for content in contents]}


def _clean_content(content: Any, model: str) -> Any:
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        return content
    cleaned = [part for original in parts if (part := _clean_part(original, model)) is not None]
    return {**content, "parts": cleaned or [{"text": ""}]}


def _clean_part(part: Any, model: str) -> Any:
    """Return the part for the upstream; None to drop it."""
    name = next((name for name in _SPELLINGS if isinstance(part, dict) and thoughts.is_own(part.get(name))), None)
    if name is None:
        return part
    decoded = [
        thoughts.decode_part_signature(item.get("encrypted_content")) for item in thoughts.decode_items(part[name])
    ]
    signatures = [entry[0] for entry in decoded if entry]
    other_fields = {key: value for key, value in part.items() if key != name}
    if signatures:
        return {**other_fields, name: signatures[-1]}
    if find(other_fields, "functionCall") is not None and needs_signatures(model):
        return {**other_fields, name: MISSING_SIGNATURE}
    return other_fields if other_fields not in ({}, {"text": ""}) else None


def generation_of(model: str) -> int | None:
    """Return the generation in the name of a model, such as 3 for ``gemini-3-pro-preview``; None if it has none."""
    match = _GENERATION.search(model)
    return int(match[1]) if match and len(match[1]) < 4 else None


def needs_signatures(model: str) -> bool:
    """Return whether a model refuses calls without a signature, as models of the third generation and later do."""
    return (generation_of(model) or 0) >= 3
