"""The control surface over HTTP, for other processes: /simulator/..."""

from collections.abc import Callable, Mapping
from typing import Any

from . import replies
from .recording import RecordedRequest
from .responses import PlainResponse, json_response
from .simulation import Simulation

JSON = Any
PREFIX = "/simulator/"

# A description is an object with one of these names as a key. Its value is the builder's first argument (null for the
# default), the other keys are the builder's keyword arguments.
ITEMS: Mapping[str, Callable[..., Any]] = {
    "text": replies.text,
    "reasoning": replies.reasoning,
    "function_call": replies.function_call,
    "custom_tool_call": replies.custom_tool_call,
    "compaction": replies.compaction,
    "item": replies.item,
}
REPLIES: Mapping[str, Callable[..., Any]] = {
    "reply": lambda items, **more: replies.reply(*map(item_from_json, items), **more),
    "refusal": replies.refusal,
    "html_403": lambda _: replies.html_403(),
    "messages": lambda events, **more: replies.messages(*events, **more),
    "hang": lambda before_headers: replies.hang(True if before_headers is None else before_headers),
}


class BadDescription(ValueError):
    """A request to the control surface that cannot be understood."""


def handle_control(simulation: Simulation, request: RecordedRequest) -> PlainResponse:
    """Carry out one control request."""
    routes = {
        ("GET", "requests"): list_requests,
        ("DELETE", "requests"): clear_requests,
        ("GET", "findings"): list_findings,
        ("POST", "script"): script,
        ("POST", "accounts"): new_account,
        ("POST", "expire"): expire,
        ("POST", "revoke"): revoke,
        ("POST", "quota"): quota,
        ("POST", "websockets"): websockets,
    }
    route = routes.get((request.method, request.path.removeprefix(PREFIX)))
    if route is None:
        return json_response(404, {"detail": "No such control"})
    try:
        if request.body_error:
            raise BadDescription(request.body_error[1])
        result = route(simulation, request.body)
    except BadDescription as error:
        return json_response(400, {"detail": str(error)})
    return PlainResponse(204, b"") if result is None else json_response(200, result)


def list_requests(simulation: Simulation, body: JSON) -> JSON:
    """The log, as a list of objects."""
    return [request.as_json() for request in simulation.requests]


def list_findings(simulation: Simulation, body: JSON) -> JSON:
    """The inconsistencies between the requests, as a list of sentences."""
    return simulation.findings


def clear_requests(simulation: Simulation, body: JSON) -> None:
    """Delete the log, the findings and the rest of the script."""
    simulation.clear()


def script(simulation: Simulation, body: JSON) -> None:
    """Add a list of described replies to the script."""
    if not isinstance(body, list):
        raise BadDescription("a script is a list of replies")
    simulation.script(*map(reply_from_json, body))


def new_account(simulation: Simulation, body: JSON) -> JSON:
    """A new account's auth.json; body: email, plan, access_lifetime, each optional."""
    return call(simulation.new_account, body or {})


def expire(simulation: Simulation, body: JSON) -> None:
    """Expire all access tokens; with {"refresh_tokens": true} the refresh tokens too."""
    simulation.expire_access_tokens()
    if isinstance(body, dict) and body.get("refresh_tokens"):
        simulation.expire_refresh_tokens()


def revoke(simulation: Simulation, body: JSON) -> None:
    """End an account's sign-in; body: account_id."""
    call(simulation.revoke, body)


def quota(simulation: Simulation, body: JSON) -> None:
    """Use up an account's quota for resets_in seconds, or restore it when that is null; body: account_id, resets_in."""
    if isinstance(body, dict) and body.get("resets_in") is None:
        call(simulation.restore_quota, {name: value for name, value in body.items() if name != "resets_in"})
    else:
        call(simulation.use_up_quota, body)


def websockets(simulation: Simulation, body: JSON) -> None:
    """How WebSockets are treated from now on; body: the fields of WebSocketBehaviour, such as {"accepts": false}."""
    if not isinstance(body, dict) or not body.keys() <= {"accepts", "ignores", "refusals", "refuses_for_good"}:
        raise BadDescription("accepts, ignores, refusals and refuses_for_good")
    for name, value in body.items():
        setattr(simulation.websockets, name, value)


def reply_from_json(description: JSON) -> replies.Scripted:
    """A described reply, for example {"reply": [items], "total_tokens": 9} or {"refusal": 500, "body": {}}."""
    described: replies.Scripted = build(REPLIES, description)
    return described


def item_from_json(description: JSON) -> replies.OutputItem:
    """A described output item, for example {"function_call": "shell", "arguments": {"cmd": "ls"}}."""
    described: replies.OutputItem = build(ITEMS, description)
    return described


def build(builders: Mapping[str, Callable[..., Any]], description: JSON) -> Any:
    """Call the one builder that a description names."""
    named = [name for name in description if name in builders] if isinstance(description, dict) else []
    if len(named) != 1:
        raise BadDescription(f"expected an object with one of {', '.join(builders)}: {description!r}")
    more = {name: value for name, value in description.items() if name != named[0]}
    first = description[named[0]]
    uses_default = first is None and named[0] in ITEMS
    return call(builders[named[0]], more, *([] if uses_default else [first]))


def call(function: Callable[..., Any], keywords: JSON, *arguments: Any) -> Any:
    """Call with arguments from JSON; BadDescription if they do not fit."""
    if not isinstance(keywords, dict):
        raise BadDescription(f"expected an object: {keywords!r}")
    try:
        return function(*arguments, **keywords)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadDescription(f"{type(error).__name__}: {error}") from error
