"""Wheels of the distributions, and empty environments to install them into."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ("anthropic", "chat", "codex", "echo", "gemini", "openai")
DISTRIBUTIONS = {"floway_core": ROOT, **{f"floway_{name}": ROOT / "plugins" / name for name in PLUGINS}}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Wheels of all distributions, built from what git tracks, as a release would."""
    work = tmp_path_factory.mktemp("wheels")
    run("git", "clone", "--quiet", ROOT, work / "clone")
    built = {}
    for name, folder in DISTRIBUTIONS.items():
        source = work / "clone" / folder.relative_to(ROOT)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", work / "dist", source)
        built[name] = next((work / "dist").glob(f"{name}-*.whl"))
    return built


class Environment:
    """An empty virtual environment. Call it with the name of a program and its arguments."""

    def __init__(self, folder):
        self.folder = folder
        run(sys.executable, "-m", "venv", folder / "venv")

    def __call__(self, program, *arguments):
        settings = {"PATH": "/usr/bin:/bin", "FLOWAY_DATA_DIR": str(self.folder / "data"), "HOME": str(self.folder)}
        return run(self.folder / "venv/bin" / program, *arguments, cwd=self.folder, env=settings)


@pytest.fixture
def environment(tmp_path):
    """An environment for one test."""
    return Environment(tmp_path)


@pytest.fixture(scope="module")
def shared_environment(tmp_path_factory):
    """An environment for all tests of a module."""
    return Environment(tmp_path_factory.mktemp("environment"))
