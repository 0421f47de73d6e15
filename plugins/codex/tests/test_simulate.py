"""``floway codex simulate``: what it prints makes Floway use it, and what keeps it from starting is one line."""

import socket
import subprocess
import sys
import threading

import pytest

from floway_core.testing import Installation

PATIENCE = 60


@pytest.fixture
def installation():
    with Installation(installed=["codex"]) as made:
        yield made


def simulate(installation, *options):
    command = [sys.executable, "-m", "floway_core", "codex", "simulate", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=installation.environ, cwd=installation.folder, text=True, **pipes)


@pytest.mark.parametrize("name", [pytest.param("auth.json", marks=pytest.mark.soak), "with space's.json"])
def test_what_it_prints_can_be_pasted_into_a_shell(installation, name):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    with simulate(installation, "--bind", bind, "--auth-file", name) as running:
        watchdog = threading.Timer(PATIENCE, running.kill)
        watchdog.start()
        try:
            lines = [running.stdout.readline() for _ in range(3)]
            base, auth, imported = lines
            assert base == f"export FLOWAY_CODEX_BASE_URL=http://{bind}/backend-api\n"
            assert auth == f"export FLOWAY_CODEX_AUTH_URL=http://{bind}/oauth/token\n"
            assert imported.startswith("floway codex import ")
            script = f'set -e; floway() {{ "{sys.executable}" -m floway_core "$@"; }}\n' + "".join(lines)
            shell = {"env": installation.environ, "capture_output": True, "text": True, "timeout": PATIENCE}
            done = subprocess.run(["sh", "-c", script + "floway models"], cwd="/", **shell)
            assert done.returncode == 0, done.stderr
            assert "user@example.com" in done.stdout and "gpt-5.5" in done.stdout
        finally:
            running.terminate()
            rest, told = running.communicate(timeout=PATIENCE)
            watchdog.cancel()
    assert (running.returncode, rest) == (0, "")
    assert told.splitlines()[0].startswith("A simulated Codex backend is running; Ctrl-C stops it.")


def refused(installation, *options):
    done = installation.run("codex", "simulate", *options)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_port_that_is_taken(installation):
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(installation, "--bind", bind)
    assert line == (f"Error: The simulator cannot listen on {bind}: Address already in use. Try --bind 127.0.0.1:PORT.")


@pytest.mark.parametrize("host", ["192.0.2.1", "[::1]"])
def test_an_address_that_is_not_here(installation, host):
    assert "The simulator cannot listen on " in refused(installation, "--bind", f"{host}:0")


def test_a_file_that_cannot_be_written(installation):
    line = refused(installation, "--bind", "127.0.0.1:0", "--auth-file", "nowhere/auth.json")
    assert line == "Error: nowhere/auth.json cannot be written: No such file or directory."
