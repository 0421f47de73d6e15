"""Turns: which requests belong to one turn, and the turn state that the backend expects back.

A response of the backend may carry ``x-codex-turn-state``. All later dispatches of the turn return its first value;
dispatches of another turn or account must not. No process holds this state: the value is encrypted together with its
account and turn, and is stored in the snapshot and sent to the client in this form.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.secrets import DecryptionError, SecretBox

TURN_STATE = "x-codex-turn-state"


def answers_calls(items: Sequence[Mapping[str, Any]], new_items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the new items of a request are outputs of the tools that the last response called, and nothing else.

    Instructions may stand among them: some clients remind the model of something while it works.

    Such a request continues the turn of that response. If the calls are among the new items, they come from another
    response.

    :param items: all input items.
    :param new_items: the items that are not in the history.
    """
    if not all(_is_output(item) or _is_instruction(item) for item in new_items):
        return False
    outputs = len(items)
    while outputs and (_is_output(items[outputs - 1]) or _is_instruction(items[outputs - 1])):
        outputs -= 1
    answered = [item.get("call_id") for item in items[outputs:] if _is_output(item)]
    called = set()
    for item in reversed(items[:outputs]):
        if item.get("role") == "user" or _is_instruction(item) or _is_output(item):
            break
        called.add(item.get("call_id"))
    return bool(answered) and None not in answered and called.issuperset(answered)


def _is_output(item: Mapping[str, Any]) -> bool:
    return str(item.get("type", "")).endswith("_output")


def _is_instruction(item: Mapping[str, Any]) -> bool:
    return item.get("role") in ("developer", "system")


@dataclass(frozen=True)
class TurnStateOwner:
    """The account and the turn that a turn state belongs to."""

    account_id: str
    turn: str


def encrypt_turn_state(secrets: SecretBox, state: str, owner: TurnStateOwner) -> str:
    """Encrypt a turn state together with its owner."""
    return secrets.encrypt(json.dumps([state, owner.account_id, owner.turn]))


def decrypt_turn_state(secrets: SecretBox, candidates: Iterable[str | None], owner: TurnStateOwner) -> str | None:
    """The first of the encrypted ``candidates`` that belongs to ``owner``, decrypted; None if none does."""
    for candidate in filter(None, candidates):
        try:
            state, account_id, turn = json.loads(secrets.decrypt(candidate))
        except (DecryptionError, ValueError):  # forged, damaged, or encrypted with a former key
            continue
        if isinstance(state, str) and TurnStateOwner(account_id, turn) == owner:
            return state
    return None


def encrypt_in_headers(
    secrets: SecretBox, headers: Sequence[tuple[str, str]], owner: TurnStateOwner
) -> list[tuple[str, str]]:
    """The headers of a response, with an encrypted turn state."""
    return [
        (name, encrypt_turn_state(secrets, value, owner) if name == TURN_STATE else value) for name, value in headers
    ]
