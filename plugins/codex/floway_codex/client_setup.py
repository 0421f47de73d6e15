"""Setting up the Codex CLI: a provider in its ``config.toml``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floway_core.client_setup import (
    KEY_VARIABLE,
    CheckRequest,
    ClientSetup,
    SetupFile,
    SetupTarget,
    set_toml_values,
)

PROVIDER = "floway"
"""The name of the provider in the CLI's configuration."""


class CodexSetup(ClientSetup):
    """The official Codex CLI. Source: ``codex-rs/model-provider-info`` of the CLI."""

    name = "codex"
    title = "Codex CLI"
    start = "codex"

    def files(self, target: SetupTarget, environ: Mapping[str, str]) -> Sequence[SetupFile]:
        """Return its configuration file."""
        folder = Path(environ.get("CODEX_HOME") or Path.home() / ".codex")
        return [SetupFile(folder / "config.toml", lambda text: set_toml_values(text, _settings(target)))]

    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small request for a response."""
        body = {"model": target.model, "input": "Say hello.", "store": False}
        return CheckRequest("/v1/responses", body, {"authorization": f"Bearer {target.key}"})


def _settings(target: SetupTarget) -> dict[tuple[str, ...], Any]:
    provider = ("model_providers", PROVIDER)
    # The CLI takes the key from a variable, or from the file itself.
    key = {"env_key": KEY_VARIABLE if target.key is None else None, "experimental_bearer_token": target.key}
    values = {
        "name": "Floway",
        "base_url": f"{target.url}/v1",
        "wire_api": "responses",
        "supports_websockets": True,
        **key,
    }
    return {
        ("model",): target.model,
        ("model_provider",): PROVIDER,
        **{(*provider, name): value for name, value in values.items()},
    }
