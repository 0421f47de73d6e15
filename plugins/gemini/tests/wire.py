"""Answers of a scripted upstream with the generateContent API."""

import json

from floway_core.testing import Reply

JSON = [("content-type", "application/json; charset=UTF-8")]
USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110, "cachedContentTokenCount": 75}


def say(text, **fields):
    return {"text": text, **fields}


def think(text):
    return {"text": text, "thought": True}


def call(name, args, **fields):
    return {"functionCall": {"name": name, "args": args, **fields}}


def signed(part, signature="c2lnbmVk"):
    return {**part, "thoughtSignature": signature}


def piece(*parts, finish_reason=None, usage=None, **fields):
    """One piece of an answer, or a whole one."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    candidate |= {name: fields.pop(name) for name in ("groundingMetadata", "finishMessage") if name in fields}
    metadata = {"usageMetadata": USAGE if usage is None else usage} if finish_reason else {}
    return {"candidates": [candidate], **metadata, "modelVersion": "gemini-test", "responseId": "u1", **fields}


def event(content):
    """As Google writes them."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n\r\n"


def events(*parts, finish_reason="STOP", **fields):
    """One event for each part, and one with the reason."""
    return [*(event(piece(part)) for part in parts), event(piece(say(""), finish_reason=finish_reason, **fields))]


def stream(*parts, headers=(), **fields):
    return Reply(events(*parts, **fields), headers=[("content-type", "text/event-stream"), *headers])


def as_json(content, status=200, *headers):
    return Reply([json.dumps(content).encode()], status, [*JSON, *headers])


def whole(*parts, finish_reason="STOP", **fields):
    """An answer in one piece."""
    return as_json(piece(*parts, finish_reason=finish_reason, **fields))


def error_body(code, status, message, *details):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def error(code, status, message, *details):
    return as_json(error_body(code, status, message, *details), code)


def model_list(*names):
    """Models that think, unless their name says that they are simple."""
    methods = ["generateContent", "countTokens"]
    entries = [
        {
            "name": f"models/{name}",
            "displayName": name.title(),
            "supportedGenerationMethods": methods,
            **({} if "simple" in name else {"thinking": True}),
        }
        for name in names
    ]
    return as_json({"models": [*entries, {"name": "models/embedder", "supportedGenerationMethods": ["embedContent"]}]})


def posts(upstream):
    """The requests without those for models, which the gateway sends when it needs to."""
    return [request for request in upstream.requests if request.method == "POST"]
