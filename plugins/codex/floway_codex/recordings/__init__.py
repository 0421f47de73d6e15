"""Recordings of the codex CLI, and the profiles derived from them."""
