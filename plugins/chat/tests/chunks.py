"""Reading the stream of a chat answer: what all its chunks add up to."""

from floway_core.testing import events


def join(stream):
    """Add up the chunks of a stream, as a client does.

    :returns: the message, with ``finish_reason`` and ``usage``.
    """
    message = {"content": "", "finish_reason": None, "usage": None, "calls": {}}
    for chunk in events.parse(stream):
        assert "error" not in chunk, chunk
        assert chunk["object"] == "chat.completion.chunk"
        message["usage"] = chunk.get("usage") or message["usage"]
        for choice in chunk["choices"]:
            assert message["finish_reason"] is None, "a chunk follows the last one"
            message["finish_reason"] = choice["finish_reason"]
            add_delta(message, choice["delta"])
    return message


def add_delta(message, delta):
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value:
                known = message["calls"].setdefault(call["index"], {"arguments": ""})
                inner = call.get("function") or call.get("custom")
                known.update({key: call[key] for key in ("id", "type") if key in call})
                known.update({"name": inner["name"]} if "name" in inner else {})
                known["arguments"] += inner.get("arguments") or inner.get("input") or ""
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif isinstance(value, list):
            message[name] = [*message.get(name, []), *value]
        elif value is not None:
            message[name] = value
