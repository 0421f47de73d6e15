"""The projects that docs/plugins.md has its reader write."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
PARROT = "floway-parrot/pyproject.toml"
NAMED_BLOCK = re.compile(r"^```\w+ (floway-\S+)( \+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def projects(until=None):
    """The files in the page, ``{path: text}``: those of all sections up to the one with the heading ``until``."""
    section = rf"^## {re.escape(until)}$.*?(?=^## )" if until else ".*"
    end = re.search(section, PAGE, re.MULTILINE | re.DOTALL).end()
    files = {}
    for path, more, text in NAMED_BLOCK.findall(PAGE[:end]):
        files[path] = files[path] + "\n\n" + text if more else text
    for project in {path.partition("/")[0] for path in files}:  # some have "the parrot's with another name"
        files.setdefault(f"{project}/pyproject.toml", files[PARROT].replace("parrot", project.removeprefix("floway-")))
    return files
