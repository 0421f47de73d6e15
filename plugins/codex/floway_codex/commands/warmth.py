"""``floway codex warmth``: how well the gateway keeps the backend's prompt cache warm, for each kind of client."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from typing import Any

import click
import requests

from floway_codex.simulator import Simulator, function_call, reasoning, reply, text
from floway_codex.simulator.warmth import Warmth, measure
from floway_core.testing.gateway import RunningGateway

TURNS = 30
TARGET = 0.97
"""The smallest accepted share of the possible cache hits."""
MODELS = ("gpt-5.5", "gpt-6.1-sol")
"""Without and with responses-lite."""
INSTRUCTIONS = "You are a careful assistant. " * 80
TOOLS = [
    {
        "type": "function",
        "name": f"tool_{number}",
        "description": "Reads a part of a file. " * 8,
        "strict": False,
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    }
    for number in range(6)
]
RESPONSES, CHAT, MESSAGES = "/v1/responses", "/v1/chat/completions", "/v1/messages"
PLUGIN_OF = {"Chat Completions": "chat", "Messages": "anthropic"}
"""Kind of client -> the plugin that it needs."""

Items = list[dict[str, Any]]
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Sends a body to a path, and returns the JSON of the answer."""
Send = Callable[[Items], Items]
"""Sends the next items of a conversation, and returns the output items."""


# -------------------------------------------------------------------------------------------------------------- clients
def continue_by_id(ask: Ask) -> Send:
    """A client that continues the last response by its id."""
    last: list[str] = []

    def send(new: Items) -> Items:
        answer = _respond(ask, {"input": new, **({"previous_response_id": last[-1]} if last else {})})
        last.append(answer["id"])
        return list(answer["output"])

    return send


def resend_history(ask: Ask) -> Send:
    """A client that sends the whole history each time."""
    return _make_resender(ask, {}, lambda item: item)


def resend_unstored(ask: Ask) -> Send:
    """The same without storing: it gets the reasoning encrypted, and sends it back."""
    return _make_resender(ask, {"store": False, "include": ["reasoning.encrypted_content"]}, lambda item: item)


def resend_rewritten(ask: Ask) -> Send:
    """The same, with items rewritten: no ids, no states, and short forms of messages."""
    return _make_resender(ask, {"store": False, "include": ["reasoning.encrypted_content"]}, _rewrite)


def resend_without_reasoning(ask: Ask) -> Send:
    """A client that stores, and leaves the reasoning out of what it sends back."""
    return _make_resender(ask, {}, lambda item: None if item["type"] == "reasoning" else item)


def _make_resender(
    ask: Ask, fields: Mapping[str, Any], rewrite: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> Send:
    history: Items = []

    def send(new: Items) -> Items:
        history.extend(new)
        output: Items = _respond(ask, {"input": history, **fields})["output"]
        history.extend(sent for item in output if (sent := rewrite(item)))
        return output

    return send


def _rewrite(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "message":
        return {"role": "assistant", "content": "".join(part["text"] for part in item["content"])}
    return {name: value for name, value in item.items() if name not in ("id", "status")}


def _respond(ask: Ask, body: dict[str, Any]) -> dict[str, Any]:
    shared = {"instructions": INSTRUCTIONS, "tools": TOOLS, "reasoning": {"effort": "low"}}
    return ask(RESPONSES, {**shared, **body})


def chat(ask: Ask) -> Send:
    """A client of Chat Completions, which never sees the reasoning."""
    tools = [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        for tool in TOOLS
    ]
    messages: Items = [{"role": "system", "content": INSTRUCTIONS}]

    def send(new: Items) -> Items:
        messages.extend(
            {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
            if item.get("type") == "function_call_output"
            else item
            for item in new
        )
        answer = ask(CHAT, {"messages": messages, "tools": tools, "reasoning_effort": "low"})["choices"][0]["message"]
        messages.append(answer)
        calls = answer.get("tool_calls") or []
        return [{"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls]

    return send


def messages(ask: Ask) -> Send:
    """A client of the Messages API, which sends back the thinking that it got."""
    tools = [
        {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]} for tool in TOOLS
    ]
    thinking = {"type": "enabled", "budget_tokens": 2000}
    shared = {"max_tokens": 4000, "system": INSTRUCTIONS, "tools": tools, "thinking": thinking}
    history: Items = []

    def send(new: Items) -> Items:
        results = [
            {"type": "tool_result", "tool_use_id": item["call_id"], "content": item["output"]}
            for item in new
            if item.get("type") == "function_call_output"
        ]
        history.extend([{"role": "user", "content": results}] if results else new)
        content = ask(MESSAGES, {"messages": history, **shared})["content"]
        history.append({"role": "assistant", "content": content})
        return [{"type": "function_call", "call_id": block["id"]} for block in content if block["type"] == "tool_use"]

    return send


KINDS: Mapping[str, Callable[[Ask], Send]] = {
    "by id": continue_by_id,
    "resent history": resend_history,
    "resent history, not stored": resend_unstored,
    "resent history, rewritten": resend_rewritten,
    "resent history, no reasoning": resend_without_reasoning,
    "Chat Completions": chat,
    "Messages": messages,
}
"""Kind of client -> its way to send a conversation."""


def available_kinds() -> list[str]:
    """The kinds of client whose plugin is installed."""
    return [kind for kind in KINDS if kind not in PLUGIN_OF or importlib.util.find_spec(f"floway_{PLUGIN_OF[kind]}")]


def needed_plugins() -> list[str]:
    """The plugins that the gateway of these clients needs."""
    return ["codex", *(PLUGIN_OF[kind] for kind in available_kinds() if kind in PLUGIN_OF)]


# ---------------------------------------------------------------------------------------------------------- measurement
def run_conversation(backend: Simulator, ask: Ask, kind: str, turns: int = TURNS) -> Warmth:
    """Have a conversation of ``turns`` turns, each with reasoning, two tool calls and an answer."""
    backend.clear()
    send, outputs = KINDS[kind](ask), []
    for turn in range(turns):
        calls = [function_call(f"tool_{number}", {"path": f"/{turn}/{number}"}) for number in range(2)]
        answers = [reasoning(f"Turn {turn}."), *calls], [reasoning(), text(f"The answer of turn {turn}. " * 9)]
        backend.script(*(reply(*items) for items in answers))
        outputs += [[item.body for item in items] for items in answers]
        output = send([{"role": "user", "content": f"Question {turn}: what do these files say? " * 3}])
        send(
            [
                {"type": "function_call_output", "call_id": item["call_id"], "output": f"Line {turn} of it.\n" * 40}
                for item in output
                if item["type"] == "function_call"
            ]
        )
    return measure(backend.turns, outputs)


@click.command()
@click.option(
    "--turns", type=click.IntRange(1, 1000), default=TURNS, show_default=True, help="Turns of a conversation."
)
@click.option(
    "--transport",
    type=click.Choice(["http", "auto"]),
    default="http",
    show_default=True,
    help="What the gateway sends the requests over: POSTs, or a WebSocket.",
)
def warmth(turns: int, transport: str) -> None:
    """Measure how warm the backend's prompt cache stays.

    Runs a gateway and a simulated backend, and shows for each kind of client which share of the input the backend could
    have had in its cache. 1 is a history whose beginning never changes.
    """
    failed_kinds = []
    with Simulator() as backend:
        urls = {"codex_base_url": backend.base_url, "codex_auth_url": backend.auth_url}
        settings = {**urls, "codex_transport": transport}
        with RunningGateway(settings, installed=needed_plugins()) as gateway:
            auth_file = gateway.folder / "auth.json"
            auth_file.write_text(json.dumps(backend.new_account()))
            gateway.run("codex", "import", str(auth_file))
            for model in MODELS:
                for kind in available_kinds():
                    result = run_conversation(backend, make_asker(gateway.url, gateway.key, model), kind, turns)
                    click.echo(f"{model:14} {kind:32} {result.share:.3f}")
                    for line in result.breaks[:3]:
                        click.echo(f"    {line}")
                    failed_kinds += [kind] if result.share < TARGET else []
    if failed_kinds:
        raise click.ClickException(f"Less than {TARGET} of the possible: {', '.join(failed_kinds)}.")


def make_asker(url: str, key: str, model: str) -> Ask:
    """A client of the gateway at ``url`` that asks one model."""
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {key}"

    def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = session.post(f"{url}{path}", json={"model": model, **body}, timeout=30)
        if answer.status_code != 200:
            raise click.ClickException(f"The gateway answered {answer.status_code}: {answer.text}")
        parsed: dict[str, Any] = answer.json()
        return parsed

    return ask
