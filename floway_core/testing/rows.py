"""Checking acceptance tables: rows with short ids such as ``A-1``, and the tests that cover them."""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_ROW_RANGE = re.compile(r"([A-Z]+)-(\d+)(?:\.\.(\d+))?")


def expand(text: str) -> list[str]:
    """Expand ranges of rows: ``A-1 B-2..4`` becomes ``A-1``, ``B-2``, ``B-3`` and ``B-4``.

    :raises ValueError: ``text`` contains anything else.
    """
    rows = []
    for word in text.split():
        if not (match := _ROW_RANGE.fullmatch(word)):
            raise ValueError(f"{word!r} names no row")
        prefix, first, last = match.groups()
        rows += [f"{prefix}-{number}" for number in range(int(first), int(last or first) + 1)]
    return rows


def repeated_and_missing(expected: str, tables: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Compare the rows of tables with the expected ones.

    :param expected: rows as for ``expand``.
    :param tables: each with rows as its keys.
    :returns: rows that occur too often or unexpectedly, and expected rows that do not occur.
    """
    expected_rows = expand(expected)
    listed = [row for table in tables for key in table for row in expand(key)]
    repeated = {row for row in listed if listed.count(row) > expected_rows.count(row)}
    return sorted(repeated), sorted(set(expected_rows) - set(listed))


def absent_tests(folder: Path, tests: Iterable[str]) -> list[str]:
    """Return those tests that do not exist.

    :param tests: as ``file::function``, with the file relative to ``folder``.
    """
    return sorted(test for test in set(tests) if not _exists(folder, test))


def _exists(folder: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    file = folder / name
    if not file.is_file():
        return False
    defined = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return function in {node.name for node in defined}
