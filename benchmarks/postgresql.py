"""A private PostgreSQL server: started in a folder of its own with default settings, and measured from inside."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ProcessTree

SETTINGS = {
    "listen_addresses": "",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "10000",
    "max_connections": "300",  # two gateways with four workers each, of which each may open 32
}
"""All that differs from the defaults: reached through a socket only, and counting statements."""
START_TIMEOUT_SECONDS = 60.0

COUNTED = """
SELECT coalesce(sum(calls), 0), coalesce(sum(calls) FILTER (WHERE query ~* '^(insert|update|delete)'), 0),
       coalesce(sum(rows) FILTER (WHERE query ~* '^(insert|update|delete)'), 0),
       coalesce(sum(wal_fpi), 0), coalesce(sum(calls) FILTER (WHERE query ~* '^commit'), 0),
       coalesce(sum(shared_blks_hit + shared_blks_read), 0), coalesce(sum(total_exec_time), 0)
FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid WHERE datname = %s
"""


@dataclass(frozen=True)
class Counters:
    """What the server has done for one database since ``reset``."""

    statements: float
    """Each is one round trip."""
    writes: float
    """Statements that write."""
    rows: float
    """Rows that they wrote."""
    full_pages: float
    """Pages that went to the WAL as a whole, because they changed for the first time after a checkpoint."""
    commits: float
    """Transactions that wrote; single statements that commit by themselves are not among them."""
    blocks: float
    """Blocks of 8 KiB that were looked up in tables and indexes, in the server's memory or not."""
    exec_ms: float
    """Milliseconds that statements took inside of the server, also while they waited."""
    wal: float
    """Bytes of WAL, of the whole server."""


class Server:
    """A running server."""

    def __init__(self, folder: Path, tree: ProcessTree) -> None:
        self.folder, self.tree = folder, tree
        self._start_of_wal = "0/0"

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://floway@/{name}?host={self.folder}"

    def run(self, sql: str, *parameters: Any, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run SQL, each statement in its own transaction; return the rows of the last one."""
        with self.session(name) as run:
            return run(sql, *parameters)

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[Any]:
        """Yield a function that works as ``run``, on one connection."""
        import psycopg2

        connection = psycopg2.connect(self.url(name))
        connection.autocommit = True

        def run(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []

        try:
            yield run
        finally:
            connection.close()

    def reset(self) -> None:
        """Write a checkpoint, and count from here."""
        self.run("CHECKPOINT")
        self.run("SELECT pg_stat_statements_reset()")
        self._start_of_wal = self.run("SELECT pg_current_wal_insert_lsn()::text")[0][0]

    def counters(self, name: str) -> Counters:
        """Return what was counted for a database since ``reset``."""
        wal = self.run("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", self._start_of_wal)[0][0]
        return Counters(*map(float, self.run(COUNTED, name)[0]), wal=float(wal))

    def connections(self, name: str) -> int:
        """Return how many connections a database has at present."""
        return int(self.run("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", name)[0][0])


@contextlib.contextmanager
def server(cpus: set[int]) -> Iterator[Server]:
    """Run a server as a context manager; its data are removed with it.

    :raises FileNotFoundError: PostgreSQL is not installed.
    """
    programs = find_programs()
    with tempfile.TemporaryDirectory(prefix="floway-pg-") as name:
        folder, user, prefix = Path(name), {}, []
        if os.geteuid() == 0:  # it refuses to run as root
            user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            prefix = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
            shutil.chown(folder, "nobody", "nogroup")
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "floway", "--auth=trust", "--encoding=UTF8"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
        settings = [f"--{key}={value}" for key, value in {**SETTINGS, "unix_socket_directories": name}.items()]
        command = [*prefix, str(programs / "postgres"), "-D", str(folder / "data"), *settings]
        running = Server(folder, ProcessTree(command, cpus, folder))
        try:
            _wait_for(running)
            running.run("CREATE EXTENSION pg_stat_statements")
            yield running
        finally:
            running.tree.process.send_signal(signal.SIGINT)  # ends the sessions, and closes the files
            running.tree.process.wait()


def find_programs() -> Path:
    """Return the folder of the newest PostgreSQL.

    :raises FileNotFoundError: there is none.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        return folder
    raise FileNotFoundError("PostgreSQL is not installed: there is no initdb.")


def _wait_for(running: Server) -> None:
    import psycopg2

    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            running.run("SELECT 1")
            return
        except psycopg2.OperationalError:
            if running.tree.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {running.tree.log.read_text()[-2000:]}") from None
            time.sleep(0.05)
