"""The order of upstreams, changed by several at once."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.storage import upstreams


@pytest.mark.parametrize("_", range(5))
def test_moves_at_once(database, _):
    """Each of them is done, on what the others have left."""
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    names = [uuid.uuid4().hex for _ in range(6)]
    for name in names:
        upstreams.add(database, "none", name)
    start = threading.Barrier(4, timeout=60)

    def move(worker):
        start.wait()
        for number in range(8):
            upstreams.change(database, names[(worker + number) % 6], place=number % 6 + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))
    rows = upstreams.all_rows(database)
    assert sorted(row.name for row in rows) == sorted(names)
    assert [row.position for row in rows] == [1, 2, 3, 4, 5, 6]
