"""The distributions build as wheels and work in empty environments."""

import zipfile


def test_the_core_wheel_brings_its_migrations(wheels):
    names = zipfile.ZipFile(wheels["floway_core"]).namelist()
    assert "floway_core/migrations/0001_api_keys_and_upstreams.py" in names
    assert not [name for name in names if name.startswith(("migrations/", "tests/", "plugins/"))]


def test_core_alone_starts_without_providers(wheels, environment):
    environment("pip", "install", "--quiet", wheels["floway_core"])
    assert environment("floway", "keys", "create", "me").startswith("sk-floway-")
    assert "There is no upstream" in environment("floway", "upstreams", "list")
    assert "echo" not in environment("floway", "--help")


def test_plugins_install_beside_the_core(wheels, environment):
    environment("pip", "install", "--quiet", *wheels.values())
    environment("floway", "echo", "add", "mirror")
    assert "mirror" in environment("floway", "upstreams", "list")
    assert "import" in environment("floway", "codex", "--help")
    for kind in ("anthropic", "gemini", "openai"):
        assert "--base-url" in environment("floway", "upstreams", "add", kind, "--help")
    environment("pip", "check")
