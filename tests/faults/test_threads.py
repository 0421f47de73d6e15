"""The system allows no further thread: a limit of a user or of a container has been reached."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway, Step, message_stream, write_plugin
from floway_core.testing.events import DONE

from ..dialects.conftest import LETTERS
from ..support.stored_upstreams import add_upstreams
from .raw_client import wait_for

FIRST, *OTHERS = message_stream()
HELD = Reply([FIRST, Step.HOLD, *OTHERS])
UNANSWERED = Reply(message_stream(), before=[Step.HOLD])


UNLIMITED, HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NPROC)


class LimitedGateway(RunningGateway):
    """A gateway of a user to whom limits apply: they do not to root."""

    processes = UNLIMITED
    """The limit with which it starts."""

    def _serve(self, bind):
        self._as_user = []
        if os.getuid() == 0:
            # A user that nobody else is, because its processes are counted; it may use the files of root.
            user = random.SystemRandom().randrange(2**20, 2**30)
            rights = [f"--{kind}-caps=-all,+dac_override" for kind in ("inh", "ambient")]
            self._as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *rights]
        command = [*self._as_user, sys.executable, "-m", "floway_core", "serve", "--bind", bind]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (self.processes, HARD_LIMIT)),
            )

    @contextlib.contextmanager
    def without_further_threads(self):
        """Neither the server nor its workers can start a thread or a process within the block."""
        processes = (self.process.pid, *self.worker_processes)
        self.limit(1, *processes)
        yield
        self.limit(UNLIMITED, *[pid for pid in processes if os.path.exists(f"/proc/{pid}")])

    def limit(self, count, *processes):
        """Limit the processes and threads of the user, where one of ``processes`` would start another."""
        for pid in processes:
            value = "unlimited" if count == resource.RLIM_INFINITY else count
            subprocess.run([*self._as_user, "prlimit", f"--pid={pid}", f"--nproc={value}:"], check=True)


@pytest.fixture
def start(plugin_folder, tmp_path):
    """Starts a limited gateway with the dialect ``letters``."""
    if not (shutil.which("setpriv") and shutil.which("prlimit")):
        pytest.skip("there is no setpriv or prlimit (util-linux)")
    write_plugin(tmp_path, "letters", LETTERS)
    started = []

    def make(processes=UNLIMITED, **settings):
        kind = type("_", (LimitedGateway,), {"processes": processes})
        gateway = kind(settings, plugin_folders=[plugin_folder, tmp_path], environ={"TEST_JOURNAL": os.devnull})
        started.append(gateway)
        add_upstreams(gateway, first="wire")
        return gateway

    yield make
    logs = [gateway.log for gateway in started]
    for gateway in started:
        gateway.__exit__()
    assert not any("Traceback" in log for log in logs), logs


def test_streams_go_on_and_others_are_refused(start, call, fake_upstream, refused):
    """Each in the form of its dialect. All threads that there are wait for an upstream, so streams end without them."""
    gateway, patient = start(), FakeUpstream()
    ask = call(gateway)
    with patient:
        fake_upstream.script(*[HELD] * 8)
        streams = [ask.stream() for _ in range(8)]
        for stream in streams:
            stream.read_until(b"\n\n")
        patient.answer_always("/answers", UNANSWERED)
        with gateway.without_further_threads():
            elsewhere = ApiClient(gateway.url, gateway.key, {"x-test-upstream": patient.url})
            many = [elsewhere.create() for _ in range(40)]
            wait_for(lambda: gateway.log.count("no thread can be started") + len(patient.requests) == len(many))
            letter = elsewhere.post({"to": "model-1", "lines": ["Hi"]}, "/v1/letters")
            assert (letter.status, letter.json()["trouble"]["kind"]) == (530, "server_overloaded")
            fake_upstream.release.set()
            assert all(stream.body.endswith(DONE) for stream in streams)
        taken = len(patient.requests)
        assert 0 < taken < len(many) - 20
        patient.release.set()
        assert sorted(answer.status for answer in many) == [200] * taken + [503] * (len(many) - taken)
        for answer in (answer for answer in many if answer.status == 503):
            refused(answer, 503, "server_overloaded")
            assert answer.headers["retry-after"] == "1" and answer.headers["x-request-id"] in gateway.log
        assert all(answer.status == 200 for answer in [elsewhere.create() for _ in range(40)])


def test_a_worker_that_cannot_be_replaced_takes_nobody_along(start, call, fake_upstream):
    gateway = start(workers="2")
    ask = call(gateway)
    victim, survivor = gateway.workers
    with gateway.without_further_threads():
        os.kill(victim, signal.SIGKILL)
        gateway.wait_for_log("A worker could not start, and will be tried again")
        assert gateway.workers == [survivor]
        fake_upstream.script(Reply(message_stream()))
        assert ask.create().status == 200
    wait_for(lambda: len(gateway.workers) == 2)


def test_missing_threads_are_told_at_the_start(start, call, fake_upstream):
    """The server starts all the same."""
    gateway = start(processes=100, threads="200")
    (line,) = gateway.wait_for_log("and the system allows")
    promised, allowed = [int(word) for word in line.replace(",", "").split() if word.isdigit()][-2:]
    assert promised > 200 and 50 < allowed < 100
    fake_upstream.script(Reply(message_stream()))
    assert call(gateway).create().status == 200


def test_a_worker_without_its_first_threads_is_tried_again(start, call, fake_upstream):
    gateway = start()
    gateway.limit(4, gateway.process.pid)
    os.kill(gateway.workers[0], signal.SIGKILL)
    gateway.wait_for_log("A worker could not start; retrying")
    gateway.limit(UNLIMITED, gateway.process.pid)
    wait_for(lambda: gateway.workers)
    fake_upstream.script(Reply(message_stream()))
    assert call(gateway).create().status == 200
