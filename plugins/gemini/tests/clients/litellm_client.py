"""LiteLLM's ``gemini/``: an answer, a stream, a loop with a tool, an object, an error. Prints what it got as JSON."""

import json
import sys

import litellm

url, key, name = sys.argv[1:]
litellm.suppress_debug_info = True
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def complete(messages, **options):
    return litellm.completion(
        model=f"gemini/{name}", messages=messages, api_base=f"{url}/v1beta", api_key=key, num_retries=0, **options
    )


def ask(text):
    return [{"role": "user", "content": text}]


history = ask("Weather?")
first = complete(history, tools=[TOOL], reasoning_effort="low").choices[0].message
history.append(first.model_dump(exclude_none=True))
for call in first.tool_calls:
    history.append({"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": "Sunny"})
second = complete(history, tools=[TOOL], reasoning_effort="low").choices[0].message
pieces = list(complete(ask("Hi"), stream=True, stream_options={"include_usage": True}))
response_format = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
structured = complete(ask("A city"), response_format=response_format)
try:
    complete(ask("Hi"))
    refused = None
except litellm.RateLimitError as error:
    refused = [error.status_code, "Enough." in str(error)]
try:
    list(complete(ask("Hi"), stream=True))
    cut = None
except Exception as error:  # noqa: BLE001 - whatever it makes of it
    cut = type(error).__name__
sys.stdout.write(
    "\n"
    + json.dumps(
        {
            "calls": [[call.function.name, json.loads(call.function.arguments)] for call in first.tool_calls],
            "answer": second.content,
            "streamed": "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices),
            "usage": [piece.usage.completion_tokens for piece in pieces if getattr(piece, "usage", None)][-1] > 0,
            "object": json.loads(structured.choices[0].message.content),
            "refused": refused,
            "cut": cut is not None,
        }
    )
)
