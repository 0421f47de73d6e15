"""The account behind an upstream: its sign-in, tokens, limits and state."""
