"""``floway serve``: its first line has the URL when it accepts connections, and its last line reports the end."""

import contextlib
import http.client
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

from floway_core import __version__

PATIENCE = 60


@pytest.fixture
def serve(install):
    """Starts ``floway serve``; its output is read line by line."""
    with contextlib.ExitStack() as stack:

        def start(bind, **settings):
            command = [sys.executable, "-m", "floway_core", "serve", "--bind", bind]
            made = install({"workers": "1", **settings})
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "cwd": made.folder}
            process = stack.enter_context(subprocess.Popen(command, env=made.environ, **pipes))
            watchdog = threading.Timer(PATIENCE, process.kill)
            watchdog.start()
            stack.callback(watchdog.cancel)
            stack.callback(process.kill)
            return made, process

        yield start


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_first_and_the_last_line(serve, order):
    _, process = serve("127.0.0.1:0")
    first = process.stderr.readline()
    found = re.fullmatch(rf"Floway {re.escape(__version__)} listens on http://(127\.0\.0\.1:[1-9]\d+)\n", first)
    assert found, first
    with contextlib.closing(http.client.HTTPConnection(found[1], timeout=PATIENCE)) as connection:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    process.send_signal(order)
    *_, last = process.stderr
    assert (process.wait(PATIENCE), last) == (0, "Floway has stopped\n")


def test_an_address_of_the_sixth_version_is_a_url_too(serve):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    _, process = serve("[::1]:0")
    url = process.stderr.readline().split()[-1]
    assert urlsplit(url).hostname == "::1" and urlsplit(url).port


def test_a_socket_file(serve):
    made, process = serve("unix:floway.sock")
    assert process.stderr.readline() == f"Floway {__version__} listens on unix:floway.sock\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(made.folder / "floway.sock"))


def test_a_log_for_programs_has_both_lines(serve):
    _, process = serve("127.0.0.1:0", log_format="json")
    first = json.loads(process.stderr.readline())
    assert first["message"].startswith(f"Floway {__version__} listens on http://127.0.0.1:")
    told = [json.loads(line) for line in itertools.islice(process.stderr, 1)]
    process.terminate()
    told += map(json.loads, process.stderr)
    assert told[-1]["message"] == "Floway has stopped" and told[-1]["level"] == "info"


def test_a_system_without_the_hang_up_event_is_refused_in_one_line(install):
    made = install({"workers": "1"})
    script = (
        "import select, sys; del select.EPOLLRDHUP; from floway_core.cli import main; sys.argv[1:] = ['serve']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=made.environ,
        cwd=made.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    expected = "Error: Floway needs Linux to serve: this system has no hang-up event in epoll (EPOLLRDHUP).\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
