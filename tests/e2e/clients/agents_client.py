"""The Agents SDK keeps a session in a conversation, and leads another by its id. Writes what each holds as JSON."""

import asyncio
import json
import sys

from agents import Agent, OpenAIConversationsSession, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI


async def main(url, key, model):
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
    agent = Agent("test", model=OpenAIResponsesModel(model, client))
    session = OpenAIConversationsSession(openai_client=client)
    answers = await run(agent, "one", "two", session=session)
    popped = await session.pop_item()
    await session.add_items([{"role": "user", "content": str(number)} for number in range(45)])
    items = await session.get_items()
    latest = await session.get_items(limit=2)
    await session.clear_session()

    conversation = (await client.conversations.create()).id
    answers += await run(agent, "three", "four", conversation_id=conversation)
    pages = client.conversations.items.list(conversation, order="asc", limit=3)
    kept = [item.model_dump() async for item in pages]
    result = {"answers": answers, "popped": texts([popped]), "session": texts(items), "latest": texts(latest)}
    json.dump({**result, "conversation": texts(kept)}, sys.stdout)


async def run(agent, *questions, **options):
    return [(await Runner.run(agent, text, **options)).final_output for text in questions]


def texts(items):
    return [item["content"][0]["text"] for item in items]


asyncio.run(main(*sys.argv[1:]))
