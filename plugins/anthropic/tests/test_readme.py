"""The tables of the README agree with the code."""

import re
from pathlib import Path

from floway_anthropic.client import requests, tools
from floway_anthropic.upstream import requests as upstream_requests

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def row(*ends):
    """The names in the first column of the row whose second one begins with one of these."""
    found = [
        line.split("|")
        for line in README.splitlines()
        if line.startswith("|") and line.split("|")[2].strip().startswith(ends)
    ]
    return {name for cells in found for name in re.findall(r"`([\w*]+)`", cells[1])}


def test_what_is_refused():
    assert set(requests.UNTRANSLATABLE_FIELDS) <= row("refused")


def test_what_is_left_out():
    assert set(requests.IGNORED_FIELDS) <= row("left out")
    for name in tools.IGNORED_TOOLS:
        assert any(name.startswith(told.rstrip("*_")) for told in row("left out")), name


def test_the_tools_that_clients_run():
    assert {f"{name}_*" for name in tools.CLIENT_TOOLS} <= row("become functions")


def test_what_upstreams_do_not_get():
    assert set(upstream_requests.UNSUPPORTED_TOOLS) - {"computer_use_preview"} <= row("refused")
    listed = row("left out")
    for name in upstream_requests.IGNORED:
        assert name in listed or (name.startswith("prompt_cache_") and "prompt_cache_*" in listed), name


def test_thinking_budgets():
    limits = [f"up to {limit}" for limit, _ in requests.EFFORT_OF_BUDGET]
    assert all(limit in README for limit in limits)
    budgets = ", ".join(str(upstream_requests.BUDGETS[effort]) for effort in ("low", "medium", "high", "max"))
    assert budgets in README
