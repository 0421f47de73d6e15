"""Setting up Gemini CLI: its settings, and the variables in the ``.env`` file next to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floway_core.client_setup import (
    KEY_VARIABLE,
    CheckRequest,
    ClientSetup,
    SetupFile,
    SetupTarget,
    set_dotenv_values,
    set_json_values,
)


class GeminiCliSetup(ClientSetup):
    """Gemini CLI. Source: https://geminicli.com/docs/reference/configuration."""

    name = "gemini"
    title = "Gemini CLI"
    start = "gemini"

    def files(self, target: SetupTarget, environ: Mapping[str, str]) -> Sequence[SetupFile]:
        """Return the settings of the user and the file with variables."""
        folder = Path(environ.get("GEMINI_CLI_HOME") or Path.home()) / ".gemini"
        return [
            SetupFile(folder / "settings.json", lambda text: set_json_values(text, _settings(target))),
            SetupFile(folder / ".env", lambda text: set_dotenv_values(text, _variables(target))),
        ]

    def variables(self, target: SetupTarget) -> Mapping[str, str]:
        """Return the key, if no file has it."""
        return {} if target.key else {"GEMINI_API_KEY": f"${KEY_VARIABLE}"}

    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small request to generate content."""
        body = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
        path = f"/v1beta/models/{target.model}:generateContent"
        return CheckRequest(path, body, {"x-goog-api-key": target.key or ""})


def _settings(target: SetupTarget) -> dict[tuple[str, ...], Any]:
    return {
        ("security", "auth", "selectedType"): "gemini-api-key",
        ("model", "name"): target.model,
    }


def _variables(target: SetupTarget) -> dict[str, str]:
    return {"GOOGLE_GEMINI_BASE_URL": target.url, **({"GEMINI_API_KEY": target.key} if target.key else {})}
