"""The plugin's commands that only look make nothing where nothing has been set up."""

import pytest

from floway_core.testing import Installation


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("codex status", 0),
        ("codex status --json", 0),
        ("codex differences", 0),
        ("codex profile list", 0),
        ("codex explain resp_1", 1),
        ("codex --help", 0),
        ("codex login --help", 0),
    ],
)
def test_nothing_is_made(command, status):
    with Installation(installed=["codex"]) as made:
        done = made.run(*command.split())
        assert (done.returncode, "Traceback" in done.stderr, made.data_dir.exists()) == (status, False, False)
