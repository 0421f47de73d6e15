"""The commands of ``floway codex``."""
