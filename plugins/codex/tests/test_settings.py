"""The settings, and the hooks as core calls them."""

import pytest
from floway_codex import plugin
from floway_codex.wire.encoding import choose_encoding

from floway_core.runtime import plugins
from floway_core.runtime.settings_loader import load_settings
from floway_core.settings import SettingsError


def read(**environ):
    variables = {f"FLOWAY_CODEX_{name.upper()}": value for name, value in environ.items()}
    return load_settings(variables, plugin.SETTINGS).plugin


def test_defaults():
    assert read() == {
        "codex_base_url": "https://chatgpt.com/backend-api",
        "codex_auth_url": "https://auth.openai.com/oauth/token",
        "codex_host": "auto",
        "codex_profile": "newest",
        "codex_profiles": "",
        "codex_refresh_lease": 120,
        "codex_request_encoding": "auto",
        "codex_transport": "auto",
    }


@pytest.mark.parametrize(
    "given, expected",
    [
        ("https://example.com", "https://example.com/backend-api"),
        ("https://example.com/", "https://example.com/backend-api"),
        ("https://example.com/mine/", "https://example.com/mine"),
        ("https://example.com/backend-api/codex", "https://example.com/backend-api"),
        ("https://example.com/backend-api/codex/", "https://example.com/backend-api"),
        ("https://example.com/codex", "https://example.com"),
        ("http://127.0.0.1:8790", "http://127.0.0.1:8790/backend-api"),
    ],
)
def test_base_urls(given, expected):
    assert read(base_url=given)["codex_base_url"] == expected


@pytest.mark.parametrize(
    "given, expected",
    [
        ("https://example.com", "https://example.com/oauth/token"),
        ("http://localhost:1/oauth/token", "http://localhost:1/oauth/token"),
    ],
)
def test_token_urls(given, expected):
    assert read(auth_url=given)["codex_auth_url"] == expected


@pytest.mark.parametrize("given", ["http://example.com", "ftp://example.com", "chatgpt.com", "https://a:b@example.com"])
def test_urls_that_would_show_credentials_are_refused(given):
    for name in ("base_url", "auth_url"):
        with pytest.raises(SettingsError, match=f"FLOWAY_CODEX_{name.upper()}"):
            read(**{name: given})


def test_the_plugin_is_installed_and_fits_its_hooks(services):
    manager = plugins.build_plugin_manager()
    assert manager.get_plugin("codex") is plugin
    assert set(read()) <= {setting.name for setting in plugins.declared_settings(manager)}
    assert "codex" in [source.name for source in plugins.migration_sources(manager)]
    assert plugin.register_providers(services)[0].kind == "codex"


def test_request_encodings():
    assert read(request_encoding="identity")["codex_request_encoding"] == "identity"
    with pytest.raises(SettingsError, match="'gzip' is not auto, zstd or identity"):
        read(request_encoding="gzip")


def test_bodies_are_compressed_for_the_official_backend_only():
    official, other = read()["codex_base_url"], "http://127.0.0.1:9/backend-api"
    assert [choose_encoding("auto", official), choose_encoding("auto", other)] == ["zstd", "identity"]
    assert [choose_encoding("zstd", other), choose_encoding("identity", official)] == ["zstd", "identity"]
