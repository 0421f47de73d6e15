"""Streams of chat servers that fail, and a part of the message that a client gets for each."""

from .server_streams import DONE, calls, chunk, entry

FAILURES = {
    "error object": ([chunk("Hel"), b'data: {"error":{"message":"It broke.","code":500}}\n\n'], "It broke."),
    "error text": ([chunk("Hel"), b'data: {"error":"It broke."}\n\n', DONE], "It broke."),
    "vllm": ([b'data: {"object":"error","message":"It broke.","type":"X","code":500}\n\n', DONE], "It broke."),
    "llama.cpp": ([chunk("Hel"), b'error: {"code":500,"message":"It broke.","type":"server_error"}\n\n'], "It broke."),
    "openrouter": (
        [
            chunk("Hel"),
            b'data: {"error":{"code":502,"message":"It broke."},"choices":[{"index":0,"delta":{"content":""},'
            b'"finish_reason":"error"}]}\n\n',
        ],
        "It broke.",
    ),
    "named event": ([b'event: error\ndata: {"error":{"message":"It broke."}}\n\n'], "It broke."),
    "finish_reason": ([chunk("Hel"), chunk({}, "insufficient_system_resource"), DONE], "insufficient_system_resource"),
    "cut": ([chunk("Hel"), chunk("lo")], "ended"),
    "cut before anything": ([], ""),
    "cut within a call": ([calls(entry(0, "call_a", "weather", '{"ci'))], "ended"),
    "no stream": ([b"<html><body>Bad gateway</body></html>"], ""),
}
