"""Replacements for values of request fields that the API accepts and the backend refuses.

Values that the API refuses as well are passed on, so that the client gets the error of the backend.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

ENCRYPTED_REASONING = "reasoning.encrypted_content"

SERVICE_TIERS = {"fast": "priority", "auto": None, "default": None, "flex": None, "scale": None, "standard": None}
"""Service tiers that the backend refuses ("Unsupported service_tier") -> replacement; None drops the field. The backend
accepts ``priority`` only; ``auto`` and ``default`` mean the same as no field."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Reasoning efforts of the API, lowest first. Each model supports some of them."""

SUMMARIES = {"none": None}
"""Reasoning summaries that the backend refuses -> replacement; None drops the field."""

REFUSED_INCLUDES = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.output_text.logprobs",
    }
)
"""Values of ``include`` that the backend refuses, because no tool or model of it provides them."""

DROPPED_WHEN_NULL = (
    "include",
    "instructions",
    "parallel_tool_calls",
    "reasoning",
    "service_tier",
    "text",
    "tool_choice",
    "tools",
)
"""Fields that SDKs send as null and the CLI omits."""


def replace_service_tier(body: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a service tier that the backend refuses. This applies to every client."""
    adapted = dict(body)
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier in SERVICE_TIERS:
        _replace(adapted, "service_tier", SERVICE_TIERS[tier])
    return adapted


def adapt_values(body: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values that only a client other than the codex CLI sends.

    :param model: the catalogue entry of the model; empty if unknown.
    """
    adapted = dict(body)
    if None in body.values():
        adapted = {name: value for name, value in body.items() if value is not None or name not in DROPPED_WHEN_NULL}
    for name, adapt in _ADAPTERS.items():
        if isinstance(adapted.get(name), dict):
            _replace(
                adapted, name, adapt({key: value for key, value in adapted[name].items() if value is not None}, model)
            )
    if isinstance(adapted.get("include"), list):
        adapted["include"] = [
            one for one in adapted["include"] if not (isinstance(one, str) and one in REFUSED_INCLUDES)
        ]
    return adapted


def add_encrypted_reasoning(include: Any) -> Any:
    """Add encrypted reasoning to ``include``: the backend stores nothing, so requests must carry it."""
    if include is None:
        return [ENCRYPTED_REASONING]
    if isinstance(include, list) and ENCRYPTED_REASONING not in include:
        return [*include, ENCRYPTED_REASONING]
    return include


def _adapt_reasoning(field: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(effort := field.get("effort"), str):
        field["effort"] = nearest_effort(effort, _levels(model))
    if isinstance(summary := field.get("summary"), str) and summary in SUMMARIES:
        _replace(field, "summary", SUMMARIES[summary])
    return field


def _adapt_text(field: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    if model.get("support_verbosity") is False:
        field.pop("verbosity", None)
    return field


_ADAPTERS: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "reasoning": _adapt_reasoning,
    "text": _adapt_text,
}
"""Fields that are objects -> function that adapts their values to a model."""


def nearest_effort(effort: str, levels: Sequence[str]) -> str:
    """The one of ``levels`` that is nearest to ``effort``: the lowest that is at least as high, else the highest.

    :param levels: the efforts that the model supports. If it is empty, or the API has no such effort, nothing changes.
    """
    if effort in levels or effort not in EFFORTS:
        return effort
    supported = [one for one in EFFORTS if one in levels]
    if not supported:
        return effort
    return next((one for one in supported if EFFORTS.index(one) >= EFFORTS.index(effort)), supported[-1])


def _levels(model: Mapping[str, Any]) -> list[str]:
    levels = model.get("supported_reasoning_levels")
    efforts = [one.get("effort") for one in levels if isinstance(one, dict)] if isinstance(levels, list) else []
    return [effort for effort in efforts if isinstance(effort, str)]


def _replace(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or remove it if ``value`` is None or empty."""
    if value in (None, {}):
        fields.pop(name, None)
    else:
        fields[name] = value
