"""The reader of the log stops reading: a pipe, as with containers, or a socket, as with systemd."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream
from floway_core.testing.events import DONE

from ..support.stored_upstreams import add_upstreams
from .raw_client import wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

REQUESTS = 8000
"""Their lines are more than a pipe and the backlog hold."""


class PipedGateway(RunningGateway):
    """A gateway whose log goes to somebody who does not read at first."""

    def _serve(self, bind):
        if self.environ["TEST_LOG"] == "pipe":
            reader, writer = os.pipe()
        else:
            ends = socket.socketpair()
            reader, writer = (end.detach() for end in ends)
        self.reader = os.fdopen(reader, "rb")
        arguments = [sys.executable, "-m", "floway_core", "serve", "--bind", bind]
        with os.fdopen(writer, "wb") as log:
            return subprocess.Popen(
                arguments,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_nobody_waits_for_the_log(plugin_folder, fake_upstream, kind):
    environ = {"TEST_JOURNAL": os.devnull, "TEST_LOG": kind}
    with PipedGateway(plugin_folders=[plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
        first, *others = message_stream()
        fake_upstream.script(Reply([first, Step.HOLD, *others]))
        stream = ask.stream()
        stream.read_until(b"\n\n")
        connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=20)
        for number in range(REQUESTS):
            connection.request("GET", f"/nothing-{number}-" + "x" * 60)
            assert connection.getresponse().read()
        fake_upstream.release.set()
        assert stream.body.endswith(DONE)
        read = bytearray()
        reading = threading.Thread(target=lambda: [read.extend(line) for line in gateway.reader])
        reading.start()
        wait_for(lambda: b"lines of the log were dropped" in read)
        assert ask.get("/healthz").status == 200
        assert gateway.stop() == 0
        reading.join(20)
        lines = read.decode().splitlines()
        dropped = sum(int(count) for count in re.findall(r"(\d+) lines of the log were dropped", read.decode()))
        written = sum(" GET /nothing-" in line or " POST /v1/responses " in line for line in lines)
        assert dropped > 0 and written + dropped == REQUESTS + 1, "none is lost without being counted"
        assert all(line.startswith(("20", "Floway", "  missing")) for line in lines), "no line is cut"
