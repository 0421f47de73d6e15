"""Requests of clients of the generateContent API that an upstream of the same API gets as they are."""

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
"""What stands for a signature that an upstream demands and nobody has. Source: the page "Thought signatures" of
Google's documentation."""

_GENERATION = re.compile(r"gemini-(\d+)")
_SPELLINGS = ("thoughtSignature", "thought_signature")


def is_overridden(ctx: ResponsesRequestContext) -> bool:
    """Return whether an alias has changed fields of the request. They are those of the Responses API, so the original
    does not have them."""
    requested = ctx.attempt.request.body
    return any(requested.get(name) != value for name, value in ctx.body.items() if name not in ("model", "input"))


def path_of(model: str, verb: str) -> str:
    """Return the path of a request to an upstream."""
    return f"/v1beta/models/{quote(model, safe='/')}:{verb}"


def upstream_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a client that the upstream gets."""
    return {CLIENT_HEADER: headers[CLIENT_HEADER]} if CLIENT_HEADER in headers else {}


def query_string(request: DialectRequest, *, streams: bool) -> str:
    """Return the query for the upstream with its question mark; ``""`` if it has none.

    A stream is always asked for as events. The gateway frames them for a client that wants an array.
    """
    query = {
        **{name: value for name, value in request.query.items() if name != "alt"},
        **({"alt": "sse"} if streams else {}),
    }
    return f"?{urlencode(query)}" if query else ""


def write_body(request: DialectRequest, model: str) -> bytes:
    """Return the body for the upstream: that of the client, byte for byte if nothing has to change.

    :param model: the name that the upstream uses. The body has one only in a request to count tokens.
    """
    inner = request_body(request)
    cleaned = without_foreign_signatures(inner, model) if thoughts.MARK in request.raw else inner
    named = inner.get("model")
    if isinstance(named, str) and named.removeprefix("models/") != model:
        cleaned = {**cleaned, "model": f"models/{model}"}
    if cleaned is inner:
        return request.raw
    if inner is request.body:
        return jsontext.dumps(cleaned)
    field = next(name for name, value in request.body.items() if value is inner)
    return jsontext.dumps({**request.body, field: cleaned})


def without_foreign_signatures(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a request without the reasoning of other upstreams, which this one would refuse.

    Signatures of this kind of upstream that Floway has translated become what they were.
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
    cleaned = [part for one in parts if (part := _clean_part(one, model)) is not None]
    return {**content, "parts": cleaned or [{"text": ""}]}


def _clean_part(part: Any, model: str) -> Any:
    """Return the part for the upstream; None if nothing is left of it."""
    name = next((one for one in _SPELLINGS if isinstance(part, dict) and thoughts.is_own(part.get(one))), None)
    if name is None:
        return part
    found = [
        thoughts.decode_part_signature(item.get("encrypted_content")) for item in thoughts.decode_items(part[name])
    ]
    signatures = [one[0] for one in found if one]
    rest = {key: value for key, value in part.items() if key != name}
    if signatures:
        return {**rest, name: signatures[-1]}
    if find(rest, "functionCall") is not None and needs_signatures(model):
        return {**rest, name: MISSING_SIGNATURE}
    return rest if rest not in ({}, {"text": ""}) else None


def generation_of(model: str) -> int | None:
    """Return the generation in the name of a model, such as 3 for ``gemini-3-pro-preview``; None if it has none."""
    match = _GENERATION.search(model)
    return int(match[1]) if match and len(match[1]) < 4 else None


def needs_signatures(model: str) -> bool:
    """Return whether a model refuses calls without a signature: those of the third generation and later do."""
    return (generation_of(model) or 0) >= 3
