"""Requests, tokens and costs, by day, API key, model and upstream."""

from floway_core.storage.usage import DEFAULT_GROUPS, GROUPS, NOBODY, SUM_FIELDS, Usage, parse_since, read

__all__ = ["DEFAULT_GROUPS", "GROUPS", "NOBODY", "SUM_FIELDS", "Usage", "parse_since", "read"]
