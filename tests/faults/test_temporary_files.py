"""The disk for temporary files is full: workers share their metrics there."""

import os
import signal

from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream
from floway_core.testing.events import DONE

from ..support.stored_upstreams import add_upstreams
from .conftest import fill
from .raw_client import wait_for


def test_a_full_disk_ends_no_worker(plugin_folder, mount_small_folder, fake_upstream):
    """Neither one that runs, nor one that starts then."""
    small_folder = mount_small_folder(1)
    settings = {"metrics": "open", "workers": "2", "graceful_timeout": "600"}  # the streams outlast all of this
    environ = {"TEST_JOURNAL": os.devnull, "TMPDIR": str(small_folder)}
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
        for path in [*paths * 4, "/metrics"]:
            answer = ask.get(path)
            assert answer.body and answer.status in ((200,) if path == "/metrics" else (200, 404, 426)), path
        new = set(gateway.workers) - set(before)
        fake_upstream.release.set()
        assert all(stream.body.endswith(DONE) for stream in streams)
        wait_for(lambda: set(gateway.workers) == new)
        answer = ask.create()
        assert answer.body and answer.status == 200
        assert gateway.log.count("are off from now on") >= 1
        assert "SIGBUS" not in gateway.log and "Traceback" not in gateway.log
        assert gateway.stop() == 0
