"""Many processes that start on an empty database migrate it one after the other."""

import subprocess
import sys

import pytest

from floway_core.storage import migrate
from floway_core.storage.db import connect, select

from .direct_store import Store, assistant

PROCESSES = 8

# Brings each database whose URL it is told up to date, and says how many migrations it has applied.
PROCESS = """
import sys
from floway_core.storage import migrate
from floway_core.storage.db import connect

print("ready", flush=True)
for url in sys.stdin:
    database = connect(url.strip())
    try:
        print(len(migrate.apply(database, [migrate.CORE])), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
    database.close_all()
"""


@pytest.fixture(scope="module")
def processes():
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.communicate(timeout=20)


@pytest.mark.parametrize("attempt", [0, *(pytest.param(more, marks=pytest.mark.soak) for more in range(1, 10))])
def test_starting_at_once(new_database, processes, attempt):
    url = new_database()
    for process in processes:
        process.stdin.write(f"{url}\n")
    for process in processes:
        process.stdin.flush()
    told = sorted(process.stdout.readline().strip() for process in processes)
    assert told[:-1] == ["0"] * (PROCESSES - 1) and int(told[-1]) > 1
    database = connect(url)
    store = Store(database)
    assert store.history(store.turn("One", assistant("a")))
    database.close_all()


def test_sqlite_keeps_a_log_ahead(new_sqlite):
    """Which lets others read while one writes."""
    url = new_sqlite()
    first, second = connect(url), connect(url)
    migrate.apply(first, [migrate.CORE])
    assert select(second, "PRAGMA journal_mode") == [("wal",)]
    assert select(second, "PRAGMA foreign_keys") == [(1,)]
    assert select(second, "PRAGMA synchronous") == [(1,)]
    for database in (first, second):
        database.close_all()
