"""Setting up OpenAI's SDKs and opencode, which use the Responses API."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floway_core.client_setup import (
    KEY_VARIABLE,
    CheckRequest,
    ClientSetup,
    SetupFile,
    SetupTarget,
    set_json_values,
)

PROVIDER = "floway"
"""The name of the provider in opencode's configuration."""


def check_responses(target: SetupTarget) -> CheckRequest:
    """Return a small request for a response."""
    body = {"model": target.model, "input": "Say hello.", "store": False}
    return CheckRequest("/v1/responses", body, {"authorization": f"Bearer {target.key}"})


class OpenAISetup(ClientSetup):
    """The SDKs and all programs that read their variables."""

    name = "openai"
    title = "OpenAI SDKs"

    def variables(self, target: SetupTarget) -> Mapping[str, str]:
        """Return base URL and key."""
        return {"OPENAI_BASE_URL": f"{target.url}/v1", "OPENAI_API_KEY": target.key or f"${KEY_VARIABLE}"}

    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small request for a response."""
        return check_responses(target)


class OpencodeSetup(ClientSetup):
    """opencode, with the provider package of the AI SDK for the Responses API.

    Source: https://opencode.ai/docs/config and https://opencode.ai/docs/providers.
    """

    name = "opencode"
    title = "opencode"
    start = "opencode"

    def files(self, target: SetupTarget, environ: Mapping[str, str]) -> Sequence[SetupFile]:
        """Return its global configuration."""
        folder = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "opencode"
        file = next((path for path in (folder / "opencode.jsonc", folder / "opencode.json") if path.exists()), None)
        return [SetupFile(file or folder / "opencode.json", lambda text: set_json_values(text, _settings(target)))]

    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small request for a response."""
        return check_responses(target)


def _settings(target: SetupTarget) -> dict[tuple[str, ...], Any]:
    provider = ("provider", PROVIDER)
    return {
        ("$schema",): "https://opencode.ai/config.json",
        ("model",): f"{PROVIDER}/{target.model}",
        ("small_model",): f"{PROVIDER}/{target.model}",
        (*provider, "npm"): "@ai-sdk/openai",
        (*provider, "name"): "Floway",
        (*provider, "options", "baseURL"): f"{target.url}/v1",
        (*provider, "options", "apiKey"): target.key or f"{{env:{KEY_VARIABLE}}}",
        (*provider, "models", target.model): {"name": target.model},
    }
