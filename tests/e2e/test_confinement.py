"""The limits of the unit and the container in docs/deployment.md, as far as they need neither systemd nor an engine.

The server runs with a file system that it can only read but for its data and temporary folders, without capabilities
and new privileges, and without core dumps.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, message_stream

from ..support.stored_upstreams import add_upstreams
from .conftest import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
MAX_EXPOSURE = 20
"""Tenths, as ``systemd-analyze security`` counts from 0 (nothing is exposed) to 100."""

# Only the mounts of a namespace of its own change.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
CONFINED = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs prlimit --core=0 --nofile=8192".split()


class ConfinedGateway(RunningGateway):
    def _serve(self, bind):
        command = [sys.executable, "-m", "floway_core", "serve", "--bind", bind]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", READ_ONLY, self.folder, *CONFINED, *command],
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@pytest.fixture
def can_confine():
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "/tmp", *CONFINED, "true"], capture_output=True
    )
    if probe.returncode:
        pytest.skip(f"no namespace can be made: {probe.stderr.decode().strip()}")


def test_the_server_runs_confined(can_confine, plugin_folder, fake_upstream):
    settings, environ = {"metrics": "open", "workers": "2"}, {"TEST_JOURNAL": os.devnull}
    with ConfinedGateway(settings, plugin_folders=[plugin_folder], environ=environ) as gateway:
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE) and re.search(
            r"^NoNewPrivs:\t1$", status, re.MULTILINE
        )
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
        assert subprocess.run(["touch", f"/proc/{gateway.process.pid}/root/usr/floway-test"]).returncode != 0
        add_upstreams(gateway, first="wire")
        fake_upstream.answer_always("/answers", Reply(message_stream()))
        ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
        first = ask.create().json()["id"]
        assert ask.create("on", previous_response_id=first).status == 200
        assert ask.get("/metrics").status == 200
        assert gateway.stop() == 0 and "Traceback" not in gateway.log


def test_the_unit_exposes_little(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / "floway.service"
    file.write_text(re.search(r"^```ini floway.service\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    for limit in (
        "MemoryMax=",
        "LimitCORE=0",
        "CapabilityBoundingSet=\n",
        "ProtectSystem=strict",
        "OOMPolicy=continue",
    ):
        assert limit in file.read_text()
