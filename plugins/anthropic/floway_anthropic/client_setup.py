"""Setting up Claude Code: the environment in its ``settings.json``."""

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

MODEL_VARIABLES = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("OPUS", "SONNET", "HAIKU")))
"""The models that it uses by itself, too: for titles, summaries and the like."""


class ClaudeCodeSetup(ClientSetup):
    """Claude Code. Source: https://code.claude.com/docs/en/settings and https://code.claude.com/docs/en/llm-gateway."""

    name = "claude"
    title = "Claude Code"
    start = "claude"

    def files(self, target: SetupTarget, environ: Mapping[str, str]) -> Sequence[SetupFile]:
        """Return the settings of the user."""
        folder = Path(environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
        return [SetupFile(folder / "settings.json", lambda text: set_json_values(text, _settings(target)))]

    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small message."""
        messages = [{"role": "user", "content": "Say hello."}]
        headers = {"authorization": f"Bearer {target.key}", "anthropic-version": "2023-06-01"}
        return CheckRequest("/v1/messages", {"model": target.model, "max_tokens": 1024, "messages": messages}, headers)


def _settings(target: SetupTarget) -> dict[tuple[str, ...], Any]:
    environment = {"ANTHROPIC_BASE_URL": target.url, **dict.fromkeys(MODEL_VARIABLES, target.model)}
    if target.key is not None:
        environment["ANTHROPIC_AUTH_TOKEN"] = target.key
    values: dict[tuple[str, ...], Any] = {("env", name): value for name, value in environment.items()}
    if target.key is None:
        values["apiKeyHelper",] = f"printenv {KEY_VARIABLE}"
    return values
