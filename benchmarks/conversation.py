"""The cost of a turn in conversations of 10, 100 and 1,000 turns: rows and bytes written, milliseconds.

    python -m benchmarks.conversation [--database postgresql://USER:PASSWORD@HOST/NAME] [--turns 10,100,1000]

A turn is a question, a call of a tool, its result and an answer. It is stored in two styles: the client continues by
``previous_response_id``, or it sends the whole history again. Without ``--database`` a new SQLite file is used. On
PostgreSQL, Floway's tables are created in the given database, and the stored rows are deleted again.
"""

import argparse
import itertools
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee

from floway_core.conversation import load
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.commit import claim_ordinal, commit
from floway_core.conversation.records import StoreLimits
from floway_core.conversation.turns import resolve_turn
from floway_core.storage import keys, migrate
from floway_core.storage.db import connect, select

DAYS = 30
AVERAGED = 10
"""The figures for turn N are averages over this many turns up to it."""

HEADINGS = ("turns", "style", "history KB", "rows/turn", "bytes/turn", "begin ms", "commit ms", "load ms")


def question(number: int) -> list[dict[str, Any]]:
    text = f"Question {number}: what changed in module_{number % 17}.py, and which of its tests fail now? " * 3
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def call(number: int) -> list[dict[str, Any]]:
    arguments = f'{{"command":["sed","-n","1,80p","module_{number % 17}.py"],"workdir":"/srv/project"}}'
    blob = "".join(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}.{part}").hex for part in range(20))
    return [
        {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": blob},
        {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": "shell",
            "arguments": arguments,
            "status": "completed",
        },
    ]


def result(number: int) -> list[dict[str, Any]]:
    lines = [f"{line:4}  def check_{line * number % 997}(value): return value % {number + 1}" for line in range(40)]
    return [{"type": "function_call_output", "call_id": f"call_{number}", "output": "\n".join(lines)}]


def answer(number: int) -> list[dict[str, Any]]:
    part = {"type": "output_text", "text": f"Answer {number}: the test check_{number} fails. " * 8, "annotations": []}
    return [{"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [part]}]


class Conversation:
    """One conversation. Each turn consists of two requests."""

    def __init__(self, database: peewee.Database, sends_history: bool, key: str) -> None:
        """:param key: the id of its API key."""
        self.database, self.sends_history, self.key = database, sends_history, key
        self.upstream_id = "up_1"
        self.envelope: dict[str, Any] = {"object": "response", "status": "completed"}
        """The fields of each response but its id and output."""
        self.recent = HistoryCache(0)  # to measure the database
        self.history: list[dict[str, Any]] = []
        self.previous: str | None = None

    def turn(self, number: int) -> tuple[float, float]:
        """:returns: seconds to begin and to commit the two requests."""
        first = self._request(question(number), call(number))
        second = self._request(result(number), answer(number))
        return first[0] + second[0], first[1] + second[1]

    def _request(self, new_items: list[dict[str, Any]], output: list[dict[str, Any]]) -> tuple[float, float]:
        body = {"input": [*self.history, *new_items]} if self.sends_history else {"input": new_items}
        if not self.sends_history:
            body["previous_response_id"] = self.previous
        started = time.perf_counter()
        turn = resolve_turn(
            self.database, self.recent, self.key, body, f"resp_{uuid.uuid4().hex}", DAYS, StoreLimits(2**30)
        )
        resolved = time.perf_counter()
        commit(
            self.database,
            self.recent,
            turn,
            upstream_id=self.upstream_id,
            response={**self.envelope, "id": turn.response_id, "output": output},
            ordinal=lambda: claim_ordinal(self.database, turn.previous),
            hook=dict,
        )
        ended = time.perf_counter()
        self.previous = turn.response_id
        self.history += [*new_items, *output]
        assert len(turn.input.items) == len(self.history) - len(output)
        return resolved - started, ended - resolved

    def load(self) -> float:
        """:returns: the median of the seconds that loading the whole conversation takes."""
        snapshot = load.find_snapshot(self.database, self.key, self.previous, 0)
        seconds = []
        for _ in range(AVERAGED):
            started = time.perf_counter()
            loaded = load.load_history(self.database, self.recent, snapshot)
            seconds.append(time.perf_counter() - started)
            assert loaded.items == self.history
        return statistics.median(seconds)

    def stored(self) -> tuple[int, int]:
        """:returns: rows, and bytes in their columns of variable length."""
        rows = size = 0
        for table, columns in (("responses_snapshots", "envelope metadata_json"), ("responses_items", "payload")):
            lengths = " + ".join(f"length({column})" for column in columns.split())
            query = f"SELECT count(*), coalesce(sum({lengths}), 0) FROM {table} WHERE api_key_id = ?"
            loaded = select(self.database, query, self.key)[0]
            rows, size = rows + loaded[0], size + int(loaded[1])
        return rows, size


def measure_rows(database: peewee.Database, sends_history: bool, marks: list[int]) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each of ``marks``."""
    name = f"benchmark {uuid.uuid4().hex}"
    keys.create(database, name)
    key = select(database, "SELECT id FROM api_keys WHERE name = ?", name)[0][0]
    conversation = Conversation(database, sends_history, key)
    try:
        for number in range(1, marks[-1] + 1):
            mark = next(mark for mark in marks if mark >= number)
            if number == mark - AVERAGED + 1:
                before, times = conversation.stored(), []
            seconds = conversation.turn(number)
            if number > mark - AVERAGED:
                times.append(seconds)
            if number == mark:
                rows, size = (after - first for after, first in zip(conversation.stored(), before, strict=True))
                yield (
                    f"{mark:,}",
                    "whole history" if sends_history else "by id",
                    f"{sum(len(repr(item)) for item in conversation.history) / 1024:,.0f}",
                    f"{rows / AVERAGED:g}",
                    f"{size / AVERAGED:,.0f}",
                    *(f"{statistics.median(column) * 1000:.2f}" for column in zip(*times, strict=True)),
                    f"{conversation.load() * 1000:.2f}",
                )
    finally:
        keys.delete(database, name)


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [HEADINGS, tuple("-" * width for width in widths), *rows]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", help="a URL; without it, a new SQLite file")
    parser.add_argument(
        "--turns", default="10,100,1000", help="lengths to measure at, 10 or more (default: %(default)s)"
    )
    options = parser.parse_args()
    marks = sorted({int(mark) for mark in options.turns.split(",")})
    if marks[0] < AVERAGED or any(after - mark < AVERAGED for mark, after in itertools.pairwise(marks)):
        parser.error(f"lengths are {AVERAGED} or more, and {AVERAGED} or more apart")
    with tempfile.TemporaryDirectory() as folder:
        database = connect(options.database or f"sqlite:///{Path(folder) / 'benchmark.db'}")
        migrate.apply(database, [migrate.CORE])
        rows = [row for sends_history in (False, True) for row in measure_rows(database, sends_history, marks)]
        database.close_all()
    print("SQLite" if isinstance(database, peewee.SqliteDatabase) else "PostgreSQL")
    print(table(rows))


if __name__ == "__main__":
    main()
