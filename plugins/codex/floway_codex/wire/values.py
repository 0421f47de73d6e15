"""Values of request fields that clients of the API send and the backend refuses, and what takes their place.

What the API itself would refuse is passed on, for the backend to say what is wrong with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

ENCRYPTED_REASONING = "reasoning.encrypted_content"

SERVICE_TIERS = {"fast": "priority", "auto": None, "default": None, "flex": None, "scale": None, "standard": None}
"""Service tiers that the backend refuses ("Unsupported service_tier") -> what the CLI sends for them; None: nothing.
It takes ``priority`` alone, and what ``auto`` and ``default`` ask for is what happens without the field."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Reasoning efforts of the API, lowest first. Each model takes some of them."""

SUMMARIES = {"none": None}
"""Reasoning summaries, likewise: the CLI's settings have a name for leaving the field out."""

REFUSED_INCLUDES = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.output_text.logprobs",
    }
)
"""What cannot be included in an answer, because the tool or the model does not offer it."""

LEFT_OUT_AS_NULL = (
    "include",
    "instructions",
    "parallel_tool_calls",
    "reasoning",
    "service_tier",
    "text",
    "tool_choice",
    "tools",
)
"""Fields that SDKs send as null where the CLI leaves them out."""


def of_any_client(body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the values that the backend takes, as far as they are the same for every model and version."""
    made = dict(body)
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier in SERVICE_TIERS:
        _replace(made, "service_tier", SERVICE_TIERS[tier])
    return made


def of_other_client(body: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` of a client that is no codex CLI, in the words of one.

    :param model: the catalogue entry of the model; empty when unknown.
    """
    made = {name: value for name, value in body.items() if value is not None or name not in LEFT_OUT_AS_NULL}
    for name, fit in _FITTING.items():
        if isinstance(made.get(name), dict):
            _replace(made, name, fit({key: value for key, value in made[name].items() if value is not None}, model))
    if isinstance(made.get("include"), list):
        made["include"] = [one for one in made["include"] if not (isinstance(one, str) and one in REFUSED_INCLUDES)]
    return made


def included(include: Any) -> Any:
    """``include`` with the encrypted reasoning: nothing is stored upstream, so reasoning has to travel."""
    if include is None:
        return [ENCRYPTED_REASONING]
    if isinstance(include, list) and ENCRYPTED_REASONING not in include:
        return [*include, ENCRYPTED_REASONING]
    return include


def _reasoning(given: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(effort := given.get("effort"), str):
        given["effort"] = nearest_effort(effort, _levels(model))
    if isinstance(summary := given.get("summary"), str) and summary in SUMMARIES:
        _replace(given, "summary", SUMMARIES[summary])
    return given


def _text(given: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if model.get("support_verbosity") is False:
        given.pop("verbosity", None)
    return given


_FITTING: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "reasoning": _reasoning,
    "text": _text,
}
"""Fields that are objects, and what makes their values fit a model."""


def nearest_effort(effort: str, levels: Sequence[str]) -> str:
    """The one of ``levels`` that is nearest to ``effort``: the lowest that is as high, else the highest.

    :param levels: what the model takes; nothing is changed when that is unknown, or when the API has no such effort.
    """
    known = [one for one in EFFORTS if one in levels]
    if effort in levels or effort not in EFFORTS or not known:
        return effort
    return next((one for one in known if EFFORTS.index(one) >= EFFORTS.index(effort)), known[-1])


def _levels(model: Mapping[str, Any]) -> list[str]:
    levels = model.get("supported_reasoning_levels")
    efforts = [one.get("effort") for one in levels if isinstance(one, dict)] if isinstance(levels, list) else []
    return [effort for effort in efforts if isinstance(effort, str)]


def _replace(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or remove it where ``value`` is None or empty."""
    if value in (None, {}):
        fields.pop(name, None)
    else:
        fields[name] = value
