"""The form of input items in recordings: their keys in order, and the kind of their ids."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from floway_codex.recordings.borrowing import borrow_rows
from floway_codex.recordings.fitting import LITE, Sample, fit_fields
from floway_codex.recordings.reading import RecordedRequest
from floway_codex.wire.items import INSTRUCTIONS, ITEM_METADATA, item_kind, part_kind

UUID = r"(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-(?P<version>[0-9])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
ID = re.compile(rf"(?P<prefix>[a-z]+)_(?:{UUID}|[0-9A-Za-z]+)")
FITTED = ("id", "status", "annotations")
"""Keys with values of their own; all others only have a place, or are always null."""
CLASSIC_OR_LITE = {INSTRUCTIONS, "additional_tools"}
"""Kinds that every version has or has not, whatever is said in a conversation."""
BASE_INSTRUCTIONS = "model.base_instructions"


def fit_items(
    dispatches: Sequence[RecordedRequest], nearest: Mapping[str, Any], unseen: Mapping[str, str], borrowed: list[str]
) -> dict[str, list[list[Any]]]:
    """The keys of each kind of item.

    :param nearest: the same of the nearest profile, for kinds that are not recorded; each is added to ``borrowed``.
    :param unseen: what else no dispatch shows.
    """
    samples: dict[str, list[Sample]] = {}
    for request in dispatches:
        for kind, item in _kinds(request):
            fields = {**item, "id": _id_form(item["id"])} if "id" in item else item
            sample = Sample(fields, {LITE: request.is_lite or None}, True, request.scenario)
            samples.setdefault(kind, []).append(sample)
    has_ids = any("id" in sample.fields for kind in samples.values() for sample in kind)
    fitted = {}
    own_kinds = set(nearest) - (set() if "instructions" in unseen else CLASSIC_OR_LITE)
    for kind in sorted({*samples, *own_kinds}):
        if kind in samples:
            usual = [row[0] for row in nearest.get(kind, ())]
            rows = _fit_kind(samples[kind], usual)
            fitted[kind], lines = borrow_rows(rows, nearest.get(kind, []), unseen)
            borrowed += [f"items: {kind}: {line}" for line in lines]
        else:
            fitted[kind] = [row for row in nearest[kind] if row[0] not in FITTED or row[0] == "annotations" or has_ids]
            borrowed.append(f"items: {kind}")
    return fitted


def _fit_kind(samples: Sequence[Sample], usual: Sequence[str]) -> list[list[Any]]:
    names = {name for sample in samples for name in sample.fields}
    rows = fit_fields(samples, {}, places_only=names - set(FITTED), usual_order=usual).rows
    nulls = {name for name in names if all(name in one.fields and one.fields[name] is None for one in samples)}
    return [[row[0], None] if row[0] in nulls else row for row in rows]


def _kinds(request: RecordedRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """The items of a request and the parts of messages, with their kinds. The CLI's instructions are a kind of their
    own."""
    seeks_instructions = "instructions" not in request.body
    for item in request.body["input"]:
        kind = item_kind(item)
        if seeks_instructions and kind == "message developer":
            kinds = (item.get(ITEM_METADATA) or {}).get("content_item_kinds", [BASE_INSTRUCTIONS])
            if BASE_INSTRUCTIONS in kinds:
                seeks_instructions, kind = False, INSTRUCTIONS
        yield kind, item
        content = item.get("content")
        for part in content if isinstance(content, list) and item.get("type") == "message" else ():
            if isinstance(part, dict):
                yield part_kind(part), part


def item_kinds(request: RecordedRequest) -> list[str]:
    """The kinds of the input items of a request, in order."""
    return [kind for kind, _ in _kinds(request) if not kind.startswith("part ")]


def _id_form(value: Any) -> str | None:
    """The template of an id, such as ``msg_{uuid7}``."""
    match = ID.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return None
    return f"{match['prefix']}_{{{'uuid' + match['version'] if match['uuid'] else 'hex'}}}"
