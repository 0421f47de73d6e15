"""Tables of promises: short names of rows, and the tests that hold them."""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_SPAN = re.compile(r"([A-Z]+)-(\d+)(?:\.\.(\d+))?")


def expand(text: str) -> list[str]:
    """The rows in ``text``: ``A-1 B-2..4`` are ``A-1``, ``B-2``, ``B-3`` and ``B-4``.

    :raises ValueError: a word in it names no row.
    """
    rows = []
    for word in text.split():
        if not (found := _SPAN.fullmatch(word)):
            raise ValueError(f"{word!r} names no row")
        prefix, first, last = found.groups()
        rows += [f"{prefix}-{number}" for number in range(int(first), int(last or first) + 1)]
    return rows


def repeated_and_missing(expected: str, tables: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """The rows that stand in ``tables`` more than once or without being expected, and those that do not stand there."""
    wanted = expand(expected)
    listed = [row for table in tables for key in table for row in expand(key)]
    return sorted({row for row in listed if listed.count(row) > wanted.count(row)}), sorted(set(wanted) - set(listed))


def absent_tests(folder: Path, tests: Iterable[str]) -> list[str]:
    """Those of ``tests`` (``file::function``, with the file seen from ``folder``) that there are not."""
    return sorted(test for test in set(tests) if not _is_there(folder, test))


def _is_there(folder: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    file = folder / name
    if not file.is_file():
        return False
    defined = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return function in {node.name for node in defined}
