"""Fit templates to recorded fields: find the template that renders to each recorded value."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.wire.templates import IF, PLACEHOLDER, VALUE, Fields

LITE = "lite"
VOLATILE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{24}|\b1\d{9,12}\b|^/home/|^eyJ")
FIRST_TIME = 10**9
"""Numbers from here on are times."""
VARIES = object()
"""In place of a constant: the values differ, or are those of one process."""
MIN_LENGTH = 3
"""The least characters of a value that is looked for inside of a longer one."""


@dataclass(frozen=True)
class Sample:
    """The fields of one recorded request, in order."""

    fields: Mapping[str, Any]
    known: Mapping[str, Any]
    """Placeholder -> its value in this request; those without one have None or are missing."""
    is_plain: bool
    """Whether it is a request that others are modelled on; only these decide about constants."""
    where: str
    """The scenario, for messages."""


@dataclass(frozen=True)
class Fit:
    """The rows of a profile's section, and what they do not express."""

    rows: list[list[Any]]
    problems: list[str]


def fit_fields(
    samples: Sequence[Sample],
    preferred: Mapping[str, str],
    *,
    sources: Iterable[str] = (),
    places_only: Iterable[str] = (),
    from_client: bool = False,
    usual_order: Sequence[str] = (),
    is_ordered: bool = True,
) -> Fit:
    """Find rows that render to the fields of the samples.

    :param preferred: field -> the placeholder that it stands for, whatever others have the same value.
    :param sources: the placeholders that any field may stand for or contain.
    :param places_only: fields whose values come from elsewhere.
    :param from_client: whether a CLI sends these fields to a gateway as well. Then only the plain samples have to be
        right, because only other clients need the values.
    :param usual_order: the order of fields that no sample has together.
    :param is_ordered: whether samples with different orders are a problem.
    """
    names, disagreements = merge_orders([list(sample.fields) for sample in samples], usual_order)
    problems = disagreements if is_ordered else []
    decisive = [sample for sample in samples if sample.is_plain] if from_client else samples
    rows = []
    for name in names:
        templates = [] if name in places_only else _fit_field(name, samples, preferred.get(name), tuple(sources))
        rows.append([name, *templates])
        if name not in places_only and (
            templates or not from_client or _most_common_constant(name, decisive) is not None
        ):
            problems += _describe_mismatches(rows[-1], decisive)
    return Fit(rows, problems)


def merge_orders(orders: Sequence[Sequence[str]], usual: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """One order of all names that agrees with as many of ``orders`` as possible, and a line for each disagreement.

    :param usual: the order of names that stand together in none of them.
    """
    before = Counter(
        (first, second) for order in orders for at, first in enumerate(order) for second in order[at + 1 :]
    )
    contrary = sorted(pair for pair in before if 0 < before[pair] <= before[pair[::-1]] and pair[0] < pair[1])
    usual_positions = {name: position for position, name in enumerate(usual)}
    names = list(dict.fromkeys(name for order in orders for name in order))
    merged: list[str] = []
    while names:  # the first name that no other remaining one precedes more often than not
        candidates = [
            one for one in names if all(before[other, one] <= before[one, other] for other in names)
        ] or names[:1]
        chosen = candidates[0]
        for other in candidates[1:]:
            if other in usual_positions and usual_positions[other] < usual_positions.get(chosen, -1):
                chosen = other
        merged.append(chosen)
        names.remove(chosen)
    return merged, [f"the order of {first} and {second} varies" for first, second in contrary]


def _fit_field(name: str, samples: Sequence[Sample], preferred: str | None, sources: Sequence[str]) -> list[Any]:
    """The templates of one field; none if its values have no common source."""
    for placeholder in [preferred] if preferred else sources:
        if all(sample.fields.get(name) == sample.known.get(placeholder) for sample in samples):
            return [f"{{{placeholder}}}"]
    return _composite(name, samples, sources) or _constants(name, samples)


def _composite(name: str, samples: Sequence[Sample], sources: Sequence[str]) -> list[Any]:
    """Templates with placeholders inside of a text, those with the most first; none if some sample needs another."""
    generalised: dict[str, None] = {}
    for sample in samples:
        if isinstance(text := sample.fields.get(name), str):
            generalised[generalise(text, {source: sample.known.get(source) for source in sources})] = None
    templates = sorted(generalised, key=lambda template: -len(PLACEHOLDER.findall(template)))
    if not templates or not all(PLACEHOLDER.search(template) for template in templates):
        return []
    for chosen in ([template] for template in templates):  # ids may be equal in some requests: one that is always right
        if _agrees([name, *chosen], samples):
            return [*chosen]
    return [*templates] if _agrees([name, *templates], samples) else []


def _agrees(row: Sequence[Any], samples: Sequence[Sample]) -> bool:
    fields, name = Fields([row]), row[0]
    return all(fields.render(sample.known).get(name) == sample.fields.get(name) for sample in samples)


def generalise(text: str, known: Mapping[str, Any]) -> str:
    """``text`` with the known values in it replaced by their placeholders, the longest first."""
    values = {
        value: f"{{{placeholder}}}"
        for placeholder, value in reversed(list(known.items()))
        if isinstance(value, str) and len(value) >= MIN_LENGTH
    }
    for value in sorted(values, key=len, reverse=True):
        parts = PLACEHOLDER.split(text)  # literal, name, literal, ...
        text = "".join(
            part.replace(value, values[value]) if at % 2 == 0 else f"{{{part}}}" for at, part in enumerate(parts)
        )
    return text


def _constants(name: str, samples: Sequence[Sample]) -> list[Any]:
    """The constant that the plain samples have, by the responses-lite form if it depends on that."""
    plain = [sample for sample in samples if sample.is_plain]
    groups = [[sample for sample in plain if bool(sample.known.get(LITE)) is lite] for lite in (True, False)]
    lite, classic = (_most_common_constant(name, group) for group in groups)
    if VARIES in (lite, classic):
        return []
    if lite == classic or not all(groups):
        return [constant for constant in (lite if groups[0] else classic,) if constant is not None]
    conditional = [] if lite is None else [{IF: LITE, VALUE: lite}]
    return [*conditional, *([] if classic is None else [classic])]


def _most_common_constant(name: str, samples: Sequence[Sample]) -> Any:
    """The constant that most of the samples have; None if most have none, ``VARIES`` if there is no such constant."""
    counted = Counter(json.dumps(sample.fields.get(name)) for sample in samples).most_common(1)
    if not counted:
        return None
    value = json.loads(counted[0][0])
    return value if counted[0][1] * 2 > len(samples) and (value is None or is_constant(value)) else VARIES


def is_constant(value: Any) -> bool:
    """Whether a value may be the same in requests of other processes: no object, no id, no time, no path."""
    if isinstance(value, list):
        return all(map(is_constant, value))
    if isinstance(value, str):
        return not VOLATILE.search(value)
    return isinstance(value, (bool, int, float)) and abs(value) < FIRST_TIME


def _describe_mismatches(row: Sequence[Any], samples: Sequence[Sample]) -> list[str]:
    """A line about the samples whose value a row does not render to."""
    name, fields = row[0], Fields([row])
    wrong = [sample for sample in samples if fields.render(sample.known).get(name) != sample.fields.get(name)]
    if not wrong:
        return []
    values = sorted({_format_value(sample.fields.get(name)) for sample in wrong})
    where = sorted({sample.where for sample in wrong})
    return [
        f"{name}: {' or '.join(values[:3])}{' ...' if values[3:] else ''} in {len(wrong)} of {len(samples)} requests "
        f"({', '.join(where[:4])}{', ...' if where[4:] else ''}) instead of {_format_templates(row[1:])}"
    ]


def _format_value(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _format_templates(templates: Sequence[Any]) -> str:
    return " or ".join(map(_format_value, templates)) if templates else "what the client sends"
