"""``requirements.lock`` pins all requirements with hashes, and names no index."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))
NOT_LOCKED = {"dashboard", "otel"}
"""Plugins that the deployment of the documentation does not install: not every gateway needs what they need."""
SETUPS = [
    ROOT / "setup.cfg",
    *(file for file in sorted((ROOT / "plugins").glob("*/setup.cfg")) if file.parent.name not in NOT_LOCKED),
]


def requirements(file):
    setup = configparser.ConfigParser()
    setup.read(file)
    lines = setup["options"]["install_requires"].splitlines()
    if setup.has_section("options.extras_require"):
        lines += setup["options.extras_require"].get("postgresql", "").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("file", SETUPS, ids=lambda file: file.parent.name)
def test_everything_that_is_needed_is_locked(file):
    for requirement in requirements(file):
        if requirement.name != "floway-core":
            assert requirement.specifier.contains(LOCKED[requirement.name]), f"run `make lock`: {requirement}"


def test_everything_has_a_hash():
    entries = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCKED) > 20
    assert all("--hash=sha256:" in entry for entry in entries)


def test_no_place_is_named():
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK


def test_the_oldest_versions_are_those_of_setup_cfg():
    command = [sys.executable, ROOT / "tools" / "oldest.py", "gunicorn", "peewee"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    by_name = {requirement.name: requirement for requirement in requirements(SETUPS[0])}
    for line in done.stdout.splitlines():
        pinned = Requirement(line)
        ((_, version),) = ((bound.operator, bound.version) for bound in pinned.specifier)
        assert by_name[pinned.name].specifier.contains(version)
