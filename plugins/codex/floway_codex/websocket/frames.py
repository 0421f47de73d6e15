"""Build the headers of an upgrade, and frames from the bodies of POSTs. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.attempt import CodexAttempt
from floway_codex.identity.claims import TURN_METADATA
from floway_codex.wire.items import INSTRUCTIONS, item_kind
from floway_codex.wire.request import add_own_headers, header_values
from floway_codex.wire.templates import in_random_order
from floway_codex.wire.websocket_form import WebSocketForm
from floway_core.protocol import jsontext

CREATE = "response.create"
PREWARM = {"turn_id": "", "request_kind": "prewarm"}
"""Values in the turn metadata of a warm-up."""


@dataclass(frozen=True)
class FrameBuilder:
    """Builds the headers and frames of one dispatch."""

    form: WebSocketForm
    attempt: CodexAttempt
    body: Mapping[str, Any]
    """The body that a POST would have."""

    def upgrade_headers(self, token: str, *, warms_up: bool) -> dict[str, str]:
        """The headers of the upgrade.

        :param warms_up: whether the first frame is a warm-up. Then the turn metadata is that of the warm-up.
        """
        placeholders = {**header_values(self.attempt.placeholders), "access_token": token}
        if warms_up:
            placeholders["turn_metadata"] = self._warmup_metadata()
        rendered = self.form.headers.render(placeholders)
        rows = self.form.headers.templates
        headers = {name: rendered.get(name, "") for name, templates in rows if not templates or name in rendered}
        return add_own_headers(self.attempt, headers, self.form.headers.names)

    def frame(self, new_items: Sequence[Any] | None, previous_response_id: str | None, now_ms: int) -> dict[str, Any]:
        """The frame that asks for a response.

        :param new_items: the items that follow ``previous_response_id``; None for the whole input.
        :param now_ms: Unix time in milliseconds.
        """
        extra: dict[str, Any] = {"type": CREATE}
        body = dict(self.body)
        if previous_response_id is not None and new_items is not None:
            extra["previous_response_id"] = previous_response_id
            body["input"] = new_items
        body["client_metadata"] = self._metadata(body["client_metadata"], now_ms, self.attempt.turn_state)
        return insert_in_order(body, extra, self.form.frame)

    def warmup(self, now_ms: int) -> dict[str, Any]:
        """The frame before the first turn: the backend prepares for it, and answers with an empty response."""
        omitted = self.form.warmup.client_metadata
        client = {name: value for name, value in self.body["client_metadata"].items() if name not in omitted}
        client |= {"turn_id": "", TURN_METADATA: self._warmup_metadata()}
        body = {**self.body, "input": self.warmup_items(), "client_metadata": self._metadata(client, now_ms, None)}
        return insert_in_order(body, {"type": CREATE, "generate": False}, self.form.frame)

    def warmup_items(self) -> list[Any]:
        """The leading input items that the warm-up sends."""
        items, count = self.body["input"], 0
        for kind in self.form.warmup.items:
            expected = "message developer" if kind == INSTRUCTIONS else kind
            count += len(items) > count and item_kind(items[count]) == expected
        return list(items[:count])

    def _warmup_metadata(self) -> str:
        metadata = jsontext.loads(self.attempt.placeholders["turn_metadata"].encode())
        rest = {name: value for name, value in metadata.items() if name not in self.form.warmup.turn_metadata}
        return jsontext.ascii_text({**rest, **{name: value for name, value in PREWARM.items() if name in rest}})

    def _metadata(self, shared: Mapping[str, str], now_ms: int, turn_state: str | None) -> dict[str, str]:
        placeholders = {
            "lite": self.attempt.placeholders["lite"],
            "turn_state": turn_state,
            "request_start_ms": str(now_ms),
        }
        return in_random_order({**shared, **self.form.client_metadata.render(placeholders)}, self.attempt.seed + now_ms)


def insert_in_order(fields: Mapping[str, Any], extra: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """``fields`` with ``extra`` ones, each directly before the nearest field that follows it in ``order``."""
    pairs = list(fields.items())
    for name, value in extra.items():
        names = [pair[0] for pair in pairs]
        following = [names.index(one) for one in order[order.index(name) + 1 :] if one in names]
        pairs.insert(0 if order[0] == name else following[0] if following else len(pairs), (name, value))
    return dict(pairs)
