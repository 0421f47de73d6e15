"""Derives a profile from recordings of one version of the CLI."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_codex.recordings import known
from floway_codex.recordings.borrowing import borrow_rows, find_unseen
from floway_codex.recordings.fitting import Fit, Sample, fit_fields, generalise
from floway_codex.recordings.items import fit_items
from floway_codex.recordings.reading import MODELS_PATH, TOKEN_PATH, RecordedRequest
from floway_codex.recordings.websocket import derive_websocket
from floway_codex.wire.profile import IN_FIELD, IN_MESSAGE

USER_AGENT = re.compile(r"(?P<originator>[^/]+)/(?P<version>\S+) \((?P<os>.+); (?P<arch>[^;()]+)\) (?P<terminal>\S+)")
CONNECTION_HEADERS = ("host", "content-length", "cookie", "connection")
"""Headers that are not part of a profile."""
NESTED = ("reasoning", "text")
"""Fields of the body whose keys are listed one by one."""
FROM_REQUEST = ("model", "input", "instructions", "tools", "client_metadata")
"""Fields of the body that come from the client, or have a section of their own."""


class NoDispatches(ValueError):
    """The recordings hold no request to a model, or none to derive a profile from."""


@dataclass
class Derivation:
    """A profile, as JSON, with notes about it."""

    profile: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    """What the profile does not express: requests of this version would differ there."""
    borrowed: list[str] = field(default_factory=list)
    """What the recordings do not show, and is that of the nearest profile."""


def derive_profile(requests: Sequence[RecordedRequest], nearest: Mapping[str, Any]) -> Derivation:
    """Derive the profile of the version that is recorded.

    :param nearest: the JSON of the profile that is nearest to it, for what is not recorded.
    :raises NoDispatches: no request is recorded that the profile could be modelled on.
    """
    dispatches = [request for request in requests if request.is_dispatch]
    plain = [request for request in dispatches if request.is_plain] or [
        request for request in dispatches if known.is_turn(request)
    ]
    if not plain:
        raise NoDispatches("The recordings hold no turn with the backend itself (POST /backend-api/codex/responses).")
    tokens = [request for request in requests if request.path == TOKEN_PATH and isinstance(request.body, dict)]
    models = [request for request in requests if request.path == MODELS_PATH]
    values, user_agent = _process_values(plain, tokens, nearest)
    derivation = Derivation({"version": plain[0].version, "values": values, "user_agent": user_agent})
    sections = _Sections(derivation, nearest, plain, find_unseen(dispatches))
    sections.add("responses_headers", dispatches, _headers, known.HEADERS, sources=known.SOURCES)
    sections.add("models_headers", models, _headers, known.HEADERS, sources=known.SOURCES)
    sections.add("token_headers", tokens, _headers, known.HEADERS, sources=known.SOURCES)
    sections.add("token_body", tokens, lambda request: request.body, known.TOKEN_BODY)
    sections.add(
        "turn_metadata", dispatches, lambda request: request.turn_metadata, known.TURN_METADATA_KEYS, from_client=True
    )
    sections.add(
        "client_metadata",
        dispatches,
        _client_metadata,
        known.CLIENT_METADATA,
        sources=known.SOURCES,
        is_ordered=False,  # the CLI writes them in a random order
    )
    derivation.profile["client_metadata"].sort()
    _add_compaction(derivation, dispatches, nearest)
    sections.add(
        "body", dispatches, _body, known.BODY, sources=known.CACHE_KEYS, places_only=FROM_REQUEST, from_client=True
    )
    _add_instructions(derivation, plain, nearest)
    derivation.profile["items"] = fit_items(dispatches, nearest["items"], sections.unseen, derivation.borrowed)
    derivation.profile["websocket"], problems, borrowed = derive_websocket(
        requests, derivation.profile, nearest.get("websocket")
    )
    derivation.problems += problems
    derivation.borrowed += borrowed
    return derivation


@dataclass(frozen=True)
class _Sections:
    """Adds the sections that are lists of fields."""

    derivation: Derivation
    nearest: Mapping[str, Any]
    plain: Sequence[RecordedRequest]
    unseen: Mapping[str, str]

    def add(
        self,
        name: str,
        requests: Sequence[RecordedRequest],
        fields_of: Callable[[RecordedRequest], Mapping[str, Any]],
        preferred: Mapping[str, str],
        **options: Any,
    ) -> None:
        """Fit a section; without requests, take that of the nearest profile."""
        if not requests:
            self.derivation.profile[name] = self.nearest[name]
            self.derivation.borrowed.append(name)
            return
        samples = [
            Sample(
                fields_of(request),
                known.known_values(request),
                request in self.plain or not request.is_dispatch,
                request.scenario,
            )
            for request in requests
        ]
        usual = [row[0] for row in self.nearest[name]]
        fit: Fit = fit_fields(samples, preferred, usual_order=usual, **options)
        self.derivation.profile[name], borrowed = borrow_rows(fit.rows, self.nearest[name], self.unseen)
        self.derivation.borrowed += [f"{name}: {line}" for line in borrowed]
        self.derivation.problems += [f"{name}: {line}" for line in fit.problems]


def _headers(request: RecordedRequest) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers if name.lower() not in CONNECTION_HEADERS}


def _client_metadata(request: RecordedRequest) -> Mapping[str, Any]:
    metadata = request.body.get("client_metadata")
    return metadata if isinstance(metadata, dict) else {}


def _body(request: RecordedRequest) -> dict[str, Any]:
    """The body with the keys of nested fields as ``reasoning.effort``."""
    flat: dict[str, Any] = {}
    for name, value in request.body.items():
        if name in NESTED and isinstance(value, dict):
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[name] = value
    return flat


def _process_values(
    plain: Sequence[RecordedRequest], tokens: Sequence[RecordedRequest], nearest: Mapping[str, Any]
) -> tuple[dict[str, str], str]:
    """The values of the recorded process and its host, and the template of its user agent."""
    agent = _most_common([request.header("user-agent") or "" for request in plain])
    match = USER_AGENT.match(agent)
    values = {name: value for name, value in match.groupdict().items() if name != "version"} if match else {}
    values.setdefault("originator", plain[0].header("originator") or "")
    parts = {**values, "version": plain[0].version}
    known_values = {
        "sandbox": _most_common([str(request.turn_metadata.get("sandbox", "")) for request in plain]),
        "beta_features": _most_common([request.header("x-codex-beta-features") or "" for request in plain]),
        "client_id": _most_common([str(request.body.get("client_id", "")) for request in tokens]),
    }
    values |= {name: value or nearest["values"].get(name, "") for name, value in known_values.items()}
    return values, generalise(agent, parts)


def _most_common(values: Sequence[str]) -> str:
    return Counter(values).most_common(1)[0][0] if values else ""


def _add_compaction(derivation: Derivation, dispatches: Sequence[RecordedRequest], nearest: Mapping[str, Any]) -> None:
    """Add the metadata of a compaction that the user started; without one, the nearest profile's."""
    compactions = [request.turn_metadata.get("compaction") for request in dispatches]
    manual = [one for one in compactions if isinstance(one, dict) and one.get("trigger") == "manual"]
    if manual:
        derivation.profile["compaction"] = json.loads(_most_common(list(map(json.dumps, manual))))
    else:
        derivation.profile["compaction"] = nearest["compaction"]
        derivation.borrowed.append("compaction")


def _add_instructions(derivation: Derivation, plain: Sequence[RecordedRequest], nearest: Mapping[str, Any]) -> None:
    """Add where the instructions of models without responses-lite are: in the field or in the input."""
    classic = [request for request in plain if not request.is_lite]
    if not classic:
        derivation.borrowed.append("instructions")
    in_field = sum("instructions" in request.body for request in classic) * 2 > len(classic)
    derivation.profile["instructions"] = (IN_FIELD if in_field else IN_MESSAGE) if classic else nearest["instructions"]
