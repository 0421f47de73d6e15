"""The hook reference in the documentation has the same signatures and texts as the hooks."""

import ast
import re
from pathlib import Path

import pytest

from floway_core import hookspecs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
PARAGRAPHS = ["When", "May change", "Returns", "If it raises"]


def is_hook(node):
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(mark, ast.Name) and mark.id == "hookspec" for mark in node.decorator_list
    )


HOOKS = [node for node in ast.parse(Path(hookspecs.__file__).read_text(encoding="utf-8")).body if is_hook(node)]


def flat(text):
    return " ".join(text.replace("``", "`").split())


def documented(name):
    """The heading of a hook's section in the page, and its text."""
    sections = re.findall(r"^### `((\w+)\([^`\n]*)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [(heading, text) for heading, hook, text in sections if hook == name]
    return found


def told(node):
    """What a hook's docstring says: its first sentence, and its paragraphs by their names."""
    first, *rest = re.split(rf"^({'|'.join(PARAGRAPHS)}): ", ast.get_docstring(node), flags=re.MULTILINE)
    return flat(first), dict(zip(rest[::2], map(flat, rest[1::2]), strict=True))


@pytest.mark.parametrize("node", HOOKS, ids=lambda node: node.name)
def test_a_hook_says_everything_about_itself(node):
    summary, paragraphs = told(node)
    assert summary.endswith(".") and list(paragraphs) == PARAGRAPHS
    assert all(text.endswith(".") for text in paragraphs.values())


@pytest.mark.parametrize("node", HOOKS, ids=lambda node: node.name)
def test_the_page_says_the_same(node):
    heading, text = documented(node.name)
    assert heading == f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
    summary, paragraphs = told(node)
    assert flat(text) == flat(" ".join([summary, *(f"- **{name}:** {said}" for name, said in paragraphs.items())]))


def test_the_page_has_all_hooks_and_no_others():
    headings = re.findall(r"^### `(\w+)\(", PAGE, re.MULTILINE)
    assert headings == [node.name for node in HOOKS] and len(headings) >= 8
