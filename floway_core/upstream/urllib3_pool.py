"""Let a urllib3 pool create and connect single connections.

This is the only file that uses private names of urllib3: ``_new_conn``, ``_validate_conn`` and ``_prepare_proxy`` of
``HTTPConnectionPool``. urllib3 has no public way to get a connection of a pool: ``urlopen`` also sends the request and
reads the response with ``http.client``, which blocks inside a chunk (see ``connection.py``).

Checked with urllib3 2.2.0 and 2.8.0. setup.cfg excludes the next major version, and tests/test_library_insides.py fails
if one of these methods disappears or changes its signature.
"""

import contextlib
from typing import cast

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection


def create(pool: HTTPConnectionPool) -> HTTPConnection:
    """Create a connection for the pool's host that is not connected yet."""
    return cast(HTTPConnection, pool._new_conn())


def connect(pool: HTTPConnectionPool, connection: HTTPConnection, timeout: float, *, tunnelled: bool) -> None:
    """Connect a connection, including TLS and the tunnel through a proxy. After a failure it is closed.

    :param timeout: seconds for each step of connecting.
    :param tunnelled: whether a proxy must open a tunnel.
    :raises urllib3.exceptions.HTTPError, http.client.HTTPException, OSError: connecting failed.
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(connection.close)
        connection.timeout = timeout
        if tunnelled:
            pool._prepare_proxy(connection)
        pool._validate_conn(connection)
        if connection.is_closed:
            connection.connect()
        on_failure.pop_all()
