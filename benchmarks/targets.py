"""The targets of the measurements: Floway with default settings, and the fake upstream (``direct``)."""

import base64
import contextlib
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import chat_wire, wire
from benchmarks.processes import Memory, ProcessTree, free_port, start
from floway_core import __version__
from floway_core.testing.installation import HIDE_PLUGINS

ROOT = Path(__file__).parent.parent
START_TIMEOUT_SECONDS = 120.0
"""Time for a gateway to start."""
OBSERVERS = frozenset({"dashboard", "otel"})
"""Plugins that cost something with each request; only ``floway_observed`` loads one."""
SETTLING_SECONDS = 0.5
"""Time between the first request and the measurement of idle memory."""


@dataclass(frozen=True)
class Target:
    """A server to measure."""

    name: str
    url: str
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    exact: bool = True
    """Relays deltas as the upstream wrote them."""
    takes_messages: bool = False
    """Serves the Messages API with an upstream of the Responses API."""
    chat_model: str = ""
    """The name of a model whose upstream speaks Chat Completions; empty if there is none."""
    door_model: str = ""
    """The name of a model for chat clients whose upstream speaks the Responses API; empty if there is none."""
    stores_conversations: bool = False
    """Stores conversations; one that does not passes ``previous_response_id`` on to the upstream."""
    tree: ProcessTree | None = None
    """Its processes; None if they are not measured."""
    started: dict[str, float] = field(default_factory=dict)
    """Seconds to the first answer, seconds of CPU time until then."""
    idle: Memory = field(default_factory=lambda: Memory(0, 0))


@contextlib.contextmanager
def upstream(cpus: set[int]) -> Iterator[str]:
    """Run the fake upstream, as a context manager.

    :returns: its base URL.
    """
    process = start([sys.executable, "-m", "benchmarks.upstream"], cpus, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() + "/v1"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def direct(upstream_url: str) -> Target:
    """The fake upstream without a gateway, which shows the limits of the load generator and of itself."""
    return Target("direct", f"{upstream_url}/responses")


# ------------------------------------------------------------------------------------------------------------- gateways
def floway(
    upstream_url: str,
    cpus: set[int],
    folder: Path,
    settings: dict[str, str] | None = None,
    name: str = "Floway",
    variables: dict[str, str] | None = None,
    python: str = sys.executable,
    observer: str = "",
) -> Target:
    """Floway with default settings and SQLite on disk.

    Its upstreams are of the plugins floway-openai and floway-chat; they serve models of different names.

    :param variables: further environment variables of the server.
    :param python: the interpreter in whose environment Floway is installed.
    :param observer: the one of ``OBSERVERS`` that is loaded.
    """
    environ = {**_make_environ(folder, settings, observer), **(variables or {})}
    for kind, model in (("openai", wire.MODEL), ("chat", chat_wire.MODEL)):
        where = ("--base-url", upstream_url, "--no-key", "--no-test", "--model", model)
        _floway(environ, folder, "upstreams", "add", kind, f"bench-{kind}", *where, python=python)
    return _serve(name, environ, cpus, folder, python, chat_model=chat_wire.MODEL, door_model=wire.MODEL)


def floway_observed(upstream_url: str, cpus: set[int], folder: Path, observer: str) -> Target:
    """Floway with one of ``OBSERVERS``; floway-otel exports to the fake upstream."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": upstream_url.removesuffix("/v1")} if observer == "otel" else None
    return floway(upstream_url, cpus, folder, name=f"Floway with {observer}", variables=variables, observer=observer)


def floway_codex(
    upstream_url: str,
    cpus: set[int],
    folder: Path,
    settings: dict[str, str] | None = None,
    name: str = "Floway with Codex",
    python: str = sys.executable,
) -> Target:
    """Floway with the plugin floway-codex: each request gets an identity, each response updates the quota."""
    base_url = upstream_url.removesuffix("/v1") + "/backend-api"
    environ = _make_environ(folder, {"codex_base_url": base_url, "codex_transport": "http", **(settings or {})})
    auth = folder / "auth.json"
    auth.write_text(json.dumps(_make_auth_json()))
    _floway(environ, folder, "codex", "import", str(auth), python=python)
    return _serve(name, environ, cpus, folder, python)


def _make_environ(folder: Path, settings: dict[str, str] | None, observer: str = "") -> dict[str, str]:
    """Return environment variables without the settings of a Floway on this machine, and without other observers."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWAY_", "OTEL_"))}
    plugins = {point.name for point in importlib.metadata.entry_points(group="floway")}
    (folder / "sitecustomize.py").write_text(
        HIDE_PLUGINS.format(shown=tuple(plugins - OBSERVERS | {observer}), folders=[])
    )
    environ["PYTHONPATH"] = str(folder)
    overrides = {f"FLOWAY_{name.upper()}": value for name, value in (settings or {}).items()}
    return {**environ, "FLOWAY_DATA_DIR": str(folder / "data"), **overrides}


def command(folder: Path, *arguments: str) -> None:
    """Run ``floway ARGUMENTS`` for the Floway in ``folder``."""
    _floway(_make_environ(folder, None), folder, *arguments)


def _floway(environ: dict[str, str], folder: Path, *arguments: str, python: str = sys.executable) -> str:
    line = [python, "-m", "floway_core", *arguments]
    done = subprocess.run(line, env=environ, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"floway {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout.strip()


def _serve(name: str, environ: dict[str, str], cpus: set[int], folder: Path, python: str, **about) -> Target:
    key = _floway(environ, folder, "keys", "create", "bench", python=python)
    bind = f"127.0.0.1:{free_port()}"
    return start_gateway(
        name,
        f"http://{bind}/v1/responses",
        [python, "-m", "floway_core", "serve", "--bind", bind],
        cpus,
        folder,
        environ=environ,
        version=__version__,
        headers={"authorization": f"Bearer {key}"},
        takes_messages=True,
        stores_conversations=True,
        **about,
    )


def _make_auth_json() -> dict:
    """Return the file in which the official CLI stores a sign-in, with made-up tokens."""

    def token(**claims) -> str:
        parts = ({"alg": "none"}, {"exp": int(time.time()) + 86400, **claims})
        return ".".join(
            [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + ["x"]
        )

    account = {"chatgpt_account_id": "bench", "chatgpt_plan_type": "pro", "chatgpt_user_id": "bench"}
    claims = {"email": "bench@example.com", "https://api.openai.com/auth": account}
    tokens = {
        "id_token": token(**claims),
        "access_token": token(**claims),
        "refresh_token": "none",
        "account_id": "bench",
    }
    return {
        "OPENAI_API_KEY": None,
        "tokens": tokens,
        "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


# ------------------------------------------------------------------------------------------------------------- starting
def start_gateway(
    name: str,
    url: str,
    command: list[str],
    cpus: set[int],
    folder: Path,
    environ: dict[str, str] | None = None,
    **about,
) -> Target:
    """Start a gateway, and wait until it has answered a request."""
    start_time = time.monotonic()
    tree = ProcessTree(command, cpus, folder, environ)
    try:
        while not _is_answering(url, about.get("headers", {})):
            if tree.process.poll() is not None or time.monotonic() - start_time > START_TIMEOUT_SECONDS:
                raise RuntimeError(f"{name} does not start: {tree.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        started = {"seconds": time.monotonic() - start_time, "cpu": tree.cpu()}
        time.sleep(SETTLING_SECONDS)
        return Target(name, url, tree=tree, started=started, idle=tree.memory(), **about)
    except BaseException:
        tree.stop()
        raise


def _is_answering(url: str, headers: dict[str, str]) -> bool:
    """Make one request.

    :returns: whether a server listens.
    :raises RuntimeError: it refuses the request.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=START_TIMEOUT_SECONDS)
    body = json.dumps({"model": wire.MODEL, "input": str(wire.Order(1)), "store": False})
    try:
        connection.request("POST", parts.path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{url} answers with status {answer.status}: {content[:500]!r}")
    return True
