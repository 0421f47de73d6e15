"""Gateways of their own for tests that overload, stop or break them."""

import contextlib
import os
import subprocess

import pytest

from floway_core.testing import RunningGateway

from ..support.stored_upstreams import add_upstreams


@pytest.fixture
def start(plugin_folder):
    """Starts gateways with the test plugins, and one upstream; they live as long as the test."""
    started = []

    def make(**settings):
        environ = {"TEST_JOURNAL": os.devnull}
        started.append(RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ))
        add_upstreams(started[-1], first="wire")
        return started[-1]

    yield make
    logs = [gateway.log for gateway in started]
    for gateway in started:
        gateway.__exit__()
    assert not any("Traceback" in log for log in logs), logs


@pytest.fixture
def mount_small_folder(tmp_path):
    """Mounts a file system of some megabytes, and returns its folder. Skips the test if that is not allowed."""

    def mount(megabytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
        return tmp_path

    yield mount
    if os.path.ismount(tmp_path):
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(folder):
    """Take the last byte of a file system."""
    with contextlib.suppress(OSError), (folder / "filling").open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
