"""A request of the Messages API with as many kinds of content, tools and options as possible."""

from floway_core.testing.fuzz import PNG

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
FULL = {
    "model": "echo",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]},
        {"role": "system", "content": "Now."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "A", "citations": []},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [IMAGE]},
                {"type": "document", "title": "T", "source": {"type": "text", "data": "D"}},
                {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "R"}]},
                {"type": "tool_reference", "tool_name": "f"},
            ],
        },
    ],
    "tools": [
        {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}, "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a"], "user_location": {"city": "U"}},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "stop_sequences": ["x"],
    "temperature": 1,
    "metadata": {"user_id": "{}"},
    "service_tier": "auto",
    "stream": False,
}
