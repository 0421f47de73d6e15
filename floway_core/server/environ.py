"""The WSGI environment of a request: gunicorn's, of which everything that stays the same is created once."""

import os
from collections.abc import Mapping
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import ConfigurationProblem
from gunicorn.util import unquote_to_wsgi_str

UNPREFIXED = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}
"""Headers whose variable does not begin with ``HTTP_``."""

HTTP_PORT = "80"


def worker_environ(cfg: Any) -> dict[str, Any]:
    """Return what is the same for all requests to a worker."""
    shared: dict[str, Any] = wsgi.base_environ(cfg)
    return {**shared, "wsgi.multithread": True, "SCRIPT_NAME": os.environ.get("SCRIPT_NAME", "")}


def connection_environ(shared: Mapping[str, Any], sock: Any, client: Any, server: Any) -> dict[str, Any]:
    """Return what is the same for all requests on a connection.

    :param shared: the worker's.
    :param client, server: the addresses of both ends: a tuple, or the path of a Unix socket.
    """
    environ = {**shared, "gunicorn.socket": sock}
    if isinstance(client, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    else:
        environ["REMOTE_ADDR"] = client.decode() if isinstance(client, bytes) else client
    if isinstance(server, tuple):
        environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
    else:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = server, ""
    return environ


def request_environ(shared: Mapping[str, Any], request: Any) -> dict[str, Any]:
    """Return the environment of a request.

    :param shared: the connection's.
    :raises ConfigurationProblem: the path does not begin with the variable ``SCRIPT_NAME`` of the process.
    """
    environ = {
        **shared,
        "wsgi.input": request.body,
        "wsgi.url_scheme": request.scheme,
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/{}.{}".format(*request.version),
    }
    repeated: dict[str, list[str]] = {}
    for name, value in request.headers:
        key = UNPREFIXED.get(name) or "HTTP_" + name.replace("-", "_")
        if key in environ:
            repeated.setdefault(key, [environ[key]]).append(value)
        else:
            environ[key] = value
    for key, values in repeated.items():
        environ[key] = ",".join(values)
    if not environ["SERVER_PORT"] and (host := environ.get("HTTP_HOST")):  # a Unix socket has no port
        environ["SERVER_NAME"], environ["SERVER_PORT"] = [*host.split(":"), HTTP_PORT][:2]
    if script_name := environ["SCRIPT_NAME"]:
        if not request.path.startswith(script_name):
            raise ConfigurationProblem(f"Request path {request.path!r} does not start with SCRIPT_NAME {script_name!r}")
        environ["PATH_INFO"] = request.path[len(script_name) :]
    if "%" in request.path or not request.path.isascii():
        environ["PATH_INFO"] = unquote_to_wsgi_str(environ["PATH_INFO"])
    return environ
