"""Complete a profile from the nearest one: a recording of one turn shows, for example, no sub-agents."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from floway_codex.recordings.reading import LITE_HEADER, TURN_STATE, RecordedRequest
from floway_codex.wire.templates import IF, VALUE, Template

Rows = list[list[Any]]

UNSEEN: Mapping[str, tuple[Callable[[RecordedRequest], bool], tuple[str, ...]]] = {
    "a sub-agent": (
        lambda one: one.header("x-openai-subagent") is not None,
        (
            "x-codex-parent-thread-id",
            "x-openai-subagent",
            "parent_thread_id",
            "parent_turn_id",
            "subagent_kind",
            "subagent",
        ),
    ),
    "a compaction": (lambda one: "compaction" in one.turn_metadata, ("compaction",)),
    "a model with responses-lite": (lambda one: one.is_lite, (LITE_HEADER, "reasoning.context", "lite")),
    "a model without responses-lite": (lambda one: not one.is_lite, ("instructions", "tools")),
    "a turn state": (lambda one: one.header(TURN_STATE) is not None, (TURN_STATE, "turn_state")),
    "a service tier": (lambda one: "service_tier" in one.body, ("service_tier",)),
    "a reasoning summary": (lambda one: "summary" in (one.body.get("reasoning") or {}), ("reasoning.summary",)),
    "an output format": (lambda one: "format" in (one.body.get("text") or {}), ("text.format",)),
    "a Git project": (lambda one: "workspaces" in one.turn_metadata, ("workspaces",)),
}
"""What may not be recorded -> how to tell a dispatch that shows it, and the fields and placeholders that it needs."""


def find_unseen(dispatches: Sequence[RecordedRequest]) -> dict[str, str]:
    """Field or placeholder -> what it needs, for all that no dispatch shows."""
    return {name: what for what, (shows, names) in UNSEEN.items() if not any(map(shows, dispatches)) for name in names}


def borrow_rows(rows: Rows, nearest: Rows, unseen: Mapping[str, str]) -> tuple[Rows, list[str]]:
    """``rows`` with what the nearest profile has and no dispatch shows, and a line for each addition."""
    own_rows = {row[0]: row for row in rows}
    result, notes = [list(row) for row in rows], []
    for place, (name, *templates) in enumerate(nearest):
        if name not in own_rows and name in unseen:
            before = {row[0] for row in nearest[:place]}
            at = max((index for index, row in enumerate(result, 1) if row[0] in before), default=0)
            result.insert(at, [name, *templates])
            notes.append(f"{name} ({unseen[name]} is not recorded)")
        elif name in own_rows:
            extended, what = _extend(own_rows[name][1:], templates, unseen)
            if what:
                result[[row[0] for row in result].index(name)] = [name, *extended]
                notes.append(f"a form of {name} ({what} is not recorded)")
    return result, notes


def _extend(templates: list[Any], nearest: list[Any], unseen: Mapping[str, str]) -> tuple[list[Any], str]:
    """The templates of a field with those of the nearest profile that no dispatch could have shown."""
    for template in nearest:
        parsed = Template(template)
        needs = [unseen[name] for name in (*parsed.names, str(parsed.condition)) if name in unseen]
        if needs and template not in templates and all(other in nearest for other in templates):
            return [template, *templates], needs[0]
    classic = [other for other in nearest if not Template(other).condition]
    conditions = [condition for other in nearest if (condition := Template(other).condition)]
    only_lite_is_recorded = "tools" in unseen
    if only_lite_is_recorded and conditions and len(templates) == 1 and templates != nearest:
        return [{IF: conditions[0], VALUE: templates[0]}, *classic], unseen["tools"]
    return templates, ""
