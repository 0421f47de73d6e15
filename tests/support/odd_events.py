"""Parts of odd answers, for tests to combine."""

import json

from floway_core.testing import event, message_item
from floway_core.testing.events import USAGE, function_call_item, response

JSON = [("content-type", "application/json")]
CREATED = event("response.created", sequence_number=0, response=response())
IN_PROGRESS = event("response.in_progress", sequence_number=0, response=response())
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking."}]}
MESSAGE = message_item("Hello.")
SHELL = {**MESSAGE, "status": "in_progress", "content": []}
CALL_A, CALL_B = (function_call_item("f", f'{{"{n}":1}}', id=f"fc_{n}", call_id=f"call_{n}") for n in "ab")
OVERLOAD = {"code": "server_is_overloaded", "message": "Too many."}


def done(index, item):
    return event("response.output_item.done", output_index=index, item=item)


def added(index, item):
    return event("response.output_item.added", output_index=index, item=item)


def about(name, index=0, item_id="msg_1", **content):
    content = {"type": f"response.{name}", "item_id": item_id, "output_index": index, **content}
    return f"event: response.{name}\ndata: {json.dumps(content)}\n\n".encode()  # in ASCII: it may hold half a character


def completed(*output, kind="response.completed", **content):
    return event(kind, response=response("completed", output=list(output), usage=USAGE) | content)
