"""The request as the codex CLI sends it: profiles, headers, body."""
