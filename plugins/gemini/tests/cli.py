"""Runs the real Gemini CLI, from npm, in a home folder of its own."""

import json
import os
import subprocess

PROGRAM = os.environ.get("FLOWAY_TEST_GEMINI_CLI")

SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "tools": {"sandbox": False},
}


class GeminiCli:
    """Runs the CLI without a terminal; it may use all of its tools."""

    def __init__(self, gateway, folder, model):
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        (folder / ".gemini").mkdir()
        (folder / ".gemini" / "settings.json").write_text(json.dumps(SETTINGS))
        self.model = model
        self.environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "GOOGLE_GEMINI_BASE_URL": gateway.url,
            "GEMINI_API_KEY": gateway.key,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "NO_COLOR": "1",
        }

    def __call__(self, prompt, *arguments, **environ):
        command = [PROGRAM, "--yolo", "--model", self.model, *arguments, "--prompt", prompt]
        return subprocess.run(
            command,
            env={**self.environ, **environ},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def messages(self, prompt, *arguments):
        """The messages that it writes as JSON, one a line."""
        done = self(prompt, "--output-format", "stream-json", *arguments)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
