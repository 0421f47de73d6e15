"""The table in docs/promises.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROMISED = re.findall(r"\| `(tests/[\w/]+\.py)::(\w+)` \|", (ROOT / "docs" / "promises.md").read_text())


def test_there_are_promises():
    assert len(PROMISED) >= 20


@pytest.mark.parametrize("file, name", PROMISED)
def test_a_promise_is_held_by_a_test(file, name):
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
