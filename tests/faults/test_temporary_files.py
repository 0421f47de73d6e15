"""The disk for temporary files is full: workers share their metrics there."""

import contextlib
import os
import signal
import subprocess

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream
from floway_core.testing.events import DONE

from ..support.stored_upstreams import add_upstreams
from .raw_client import wait_for


@pytest.fixture
def small_folder(tmp_path):
    """A file system of one megabyte."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(folder):
    with contextlib.suppress(OSError), (folder / "filling").open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def test_a_full_disk_ends_no_worker(plugin_folder, small_folder, fake_upstream):
    """Neither one that runs, nor one that starts then."""
    settings, environ = {"metrics": "open", "workers": "2"}, {"TEST_JOURNAL": os.devnull, "TMPDIR": str(small_folder)}
    with RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
        first, *others = message_stream()
        fake_upstream.answer_always("/answers", Reply([first, Step.HOLD, *others]))
        streams = [ask.stream() for _ in range(8)]
        for stream in streams:
            stream.read_until(b"\n\n")
        fill(small_folder)
        before = gateway.workers
        gateway.process.send_signal(signal.SIGHUP)  # the new ones find no space; the old ones have the streams
        wait_for(lambda: len(set(gateway.workers) - set(before)) == 2)
        # The metrics of so many routes need more than the first files.
        paths = ["/v1/models", "/v1/models/x", "/v1/responses/x", "/v1/responses/x/input_items", "/openapi.json", "/"]
        paths += ["/healthz", "/readyz", "/responses/x", "/models", "/models/x", "/responses/x/input_items", "/x"]
        for path in paths * 4:
            assert ask.get(path).status in (200, 404, 426), path
        assert ask.get("/metrics").status == 200
        new = set(gateway.workers) - set(before)
        fake_upstream.release.set()
        assert all(stream.body.endswith(DONE) for stream in streams)
        wait_for(lambda: set(gateway.workers) == new)
        assert ask.create().status == 200
        assert gateway.log.count("are off from now on") >= 1
        assert "SIGBUS" not in gateway.log and "Traceback" not in gateway.log
        assert gateway.stop() == 0
