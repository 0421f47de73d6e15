"""PgBouncer in front of a PostgreSQL server."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

POOL_SIZE = 4
START_TIMEOUT_SECONDS = 30

CONFIGURATION = """
[databases]
* = host={server} user=floway

[pgbouncer]
listen_port = 5432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextlib.contextmanager
def pgbouncer(server_url: str) -> Iterator[str]:
    """Run PgBouncer in transaction mode with ``POOL_SIZE`` connections to each database, as a context manager.

    :param server_url: the URL of a database, whose server listens on a Unix socket.
    :returns: the URL of the same database through PgBouncer.
    :raises FileNotFoundError: it is not installed.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        raise FileNotFoundError("pgbouncer is not installed")
    parts = urlsplit(server_url)
    folder = Path(tempfile.mkdtemp(prefix="floway-pgbouncer-"))
    (folder / "pgbouncer.ini").write_text(
        CONFIGURATION.format(server=parse_qs(parts.query)["host"][0], folder=folder, pool_size=POOL_SIZE)
    )
    user = {}
    if os.geteuid() == 0:  # it refuses to run as root
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        for path in (folder, folder / "pgbouncer.ini"):
            shutil.chown(path, "nobody", "nogroup")
    process = subprocess.Popen([program, "-q", folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL, **user)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not (folder / ".s.PGSQL.5432").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer does not start: {(folder / 'log').read_text()}")
            time.sleep(0.01)
        yield f"postgresql://floway@{parts.path}?host={folder}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)
