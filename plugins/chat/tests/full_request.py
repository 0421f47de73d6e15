"""A request of Chat Completions with as many kinds of content, tools and options as possible."""

from floway_core.testing.fuzz import PNG

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}},
    {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "x"}},
]
FULL = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {
            "role": "user",
            "name": "anna",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
            ],
        },
        {"role": "assistant", "content": "A", "refusal": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "done"}]},
    ],
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": False}},
        {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": False}},
    "max_completion_tokens": 100,
    "reasoning_effort": "low",
    "verbosity": "low",
    "temperature": 1,
    "top_p": 0.5,
    "metadata": {"a": "b"},
    "user": "anna",
    "seed": 7,
    "stream": False,
    "stream_options": None,
}
