"""The tables of the README agree with the code."""

import re
from pathlib import Path

from floway_gemini import aliases
from floway_gemini.client import contents, generation, requests, tools
from floway_gemini.upstream import requests as upstream_requests

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def row(column, *beginnings):
    """The names in one column of the rows whose other one begins with one of these."""
    rows = [line.split("|") for line in README.splitlines() if line.startswith("|")]
    found = [cells for cells in rows if cells[3 - column].strip().startswith(beginnings)]
    return {name for cells in found for name in re.findall(r"`([\w.*-]+)`", cells[column])}


def test_what_is_refused():
    assert {*requests.UNTRANSLATABLE_FIELDS, *tools.UNTRANSLATABLE_TOOLS, *generation.UNTRANSLATABLE_FIELDS} <= row(
        1, "refused"
    )


def test_what_is_left_out():
    assert {*requests.IGNORED_FIELDS, *generation.IGNORED_FIELDS, *contents.SERVER_TOOL_PARTS} <= row(1, "left out")


def test_what_upstreams_do_not_get():
    assert set(upstream_requests.UNSUPPORTED_TOOLS) - {"computer_use_preview"} <= row(1, "refused")
    listed = row(1, "left out")
    for name in upstream_requests.IGNORED:
        assert name in listed or (name.startswith("prompt_cache_") and "prompt_cache_*" in listed), name


def test_thinking_budgets():
    assert all(f"up to {limit}" in README for limit, _ in generation.EFFORT_OF_BUDGET)
    budgets = ", ".join(str(upstream_requests.BUDGETS[one]) for one in ("minimal", "low", "medium", "high", "max"))
    assert budgets in README


def test_the_aliases():
    assert row(2, "the first model") == set(aliases.STRONG)
    assert row(2, "the second one") == set(aliases.FAST)
