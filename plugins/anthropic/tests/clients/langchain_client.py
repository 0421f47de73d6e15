"""LangChain's Anthropic package: an answer, a stream, a loop with a tool, an object. Prints what it got as JSON."""

import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

url, key, name = sys.argv[1:]


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


class City(BaseModel):
    """A city."""

    name: str


def chat(**options):
    return ChatAnthropic(model=name, base_url=url, api_key=key, max_retries=0, max_tokens=4000, **options)


thinking = chat(thinking={"type": "enabled", "budget_tokens": 2000}).bind_tools([weather])
history = [HumanMessage("Weather?")]
first = thinking.invoke(history)
history += [first, *(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls)]
second = thinking.invoke(history)
pieces = list(chat().stream("Hi"))
structured = chat().with_structured_output(City, method="json_schema").invoke("A city")
sys.stdout.write(
    json.dumps(
        {
            "calls": [[call["name"], call["args"]] for call in first.tool_calls],
            "answer": second.text,
            "streamed": "".join(piece.text for piece in pieces),
            "usage": [piece.usage_metadata for piece in pieces if piece.usage_metadata][-1]["output_tokens"] > 0,
            "object": structured.name,
        }
    )
)
