"""Convert names of functions and ids of calls between the rules of Google's API and of the Responses API."""

import functools
import hashlib
import re
from collections.abc import Iterable

from floway_gemini.fields import Message

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


@functools.lru_cache(1024)
def to_tool_name(name: str) -> str:
    """Return a name that the Responses API accepts: without dots and colons. Equal names stay equal."""
    if not name or _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_OTHER.sub('_', name)[:55]}_{digest}"


def changed_names(names: Iterable[str]) -> dict[str, str]:
    """Return the client's names of functions by their converted names, only for those that have changed."""
    return {converted: name for name in names if (converted := to_tool_name(name)) != name}


def call_id_of(call: Message) -> str | None:
    """Return the id in a call or a response; None if it has none.

    Gemini CLI prefixes the ids that it gets with the name of the function and two underscores.
    """
    call_id, name = call.text("id"), call.text("name") or ""
    return call_id.removeprefix(f"{name}__") or call_id if call_id and name else call_id or None
