"""Turns: which requests belong to one, and the state that the backend wants back within it.

The backend may answer with ``x-codex-turn-state``; the first value of a turn comes back with all later dispatches of
that turn, and with none of another turn or account. Nothing of this is kept in a process: the value is sealed together
with the account and the turn it was given for, and travels so with the client and in the snapshot.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.secrets import DecryptionError, SecretBox

TURN_STATE = "x-codex-turn-state"


def answers_calls(items: Sequence[Mapping[str, Any]], added: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a request adds results of tools that the last answer asked for to a conversation, and nothing else.

    It then goes on with the turn that the answer belongs to. A client that sends the calls along has had them from
    another answer.

    :param items: the whole input.
    :param added: the part of it that is new.
    """
    if not all(map(_is_output, added)):
        return False
    outputs = len(items)
    while outputs and _is_output(items[outputs - 1]):
        outputs -= 1
    answered = [item.get("call_id") for item in items[outputs:]]
    called = set()
    for item in reversed(items[:outputs]):
        if item.get("role") in ("user", "developer", "system") or _is_output(item):
            break
        called.add(item.get("call_id"))
    return bool(answered) and None not in answered and called.issuperset(answered)


def _is_output(item: Mapping[str, Any]) -> bool:
    return str(item.get("type", "")).endswith("_output")


@dataclass(frozen=True)
class Owner:
    """What a turn state was given for."""

    account_id: str
    turn: str


def seal(secrets: SecretBox, state: str, owner: Owner) -> str:
    """A turn state in the form in which it leaves the gateway."""
    return secrets.encrypt(json.dumps([state, owner.account_id, owner.turn]))


def unseal(secrets: SecretBox, sealed: Iterable[str | None], owner: Owner) -> str | None:
    """The first state that was sealed for this owner; None when there is none."""
    for one in filter(None, sealed):
        try:
            state, account_id, turn = json.loads(secrets.open(one))
        except (DecryptionError, ValueError):  # forged, damaged, or from before the gateway got another key
            continue
        if Owner(account_id, turn) == owner:
            return state
    return None


def relayed(secrets: SecretBox, headers: Sequence[tuple[str, str]], owner: Owner) -> list[tuple[str, str]]:
    """The headers of an answer, with the turn state sealed."""
    return [(name, seal(secrets, value, owner) if name == TURN_STATE else value) for name, value in headers]
