"""The distributions build as wheels and work in empty environments."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"floway_core": ROOT, "floway_codex": ROOT / "plugins/codex", "floway_echo": ROOT / "plugins/echo"}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
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


@pytest.fixture
def environment(tmp_path):
    """An empty virtual environment: a function that runs one of its programs."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")

    def program(name, *arguments):
        settings = {"PATH": "/usr/bin:/bin", "FLOWAY_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
        return run(tmp_path / "venv/bin" / name, *arguments, cwd=tmp_path, env=settings)

    return program


def test_the_core_wheel_brings_its_migrations(wheels):
    names = zipfile.ZipFile(wheels["floway_core"]).namelist()
    assert "floway_core/migrations/0001_api_keys_and_upstreams.py" in names
    assert not [name for name in names if name.startswith(("migrations/", "tests/", "plugins/"))]


def test_core_alone_starts_without_providers(wheels, environment):
    environment("pip", "install", "--quiet", wheels["floway_core"])
    assert environment("floway", "keys", "create", "me").startswith("sk-floway-")
    assert "NAME" in environment("floway", "upstreams", "list")
    assert "echo" not in environment("floway", "--help")


def test_plugins_install_beside_the_core(wheels, environment):
    environment("pip", "install", "--quiet", *wheels.values())
    environment("floway", "echo", "add", "mirror")
    assert "mirror" in environment("floway", "upstreams", "list")
    assert "import" in environment("floway", "codex", "--help")
    environment("pip", "check")
