"""The contract of dialects finds faults that were put into a dialect that fulfils it."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LETTERS = (HERE / "letters.py").read_text(encoding="utf-8")

# row: what is replaced in the dialect, by what, and the test that fails then
FAULTS = {
    "no end of a stream": ("done = b'data: {\"bye\": true}\\n\\n'", 'done = b""', "test_answers_streamed"),
    "no framing": ("return JSON_ARRAY if", "return None if", "test_answers_streamed"),
    "errors as they came": (
        "own = error.upstream_body(self.name)",
        'own = getattr(error, "_received_body", None)',
        "test_an_upstreams_error_is_told",
    ),
    "a broken stream in silence": (
        "        return line(trouble=error.message)",
        '        return b""',
        "test_an_answer_that_breaks_off",
    ),
    "a failure in silence": ('"response.failed"', '"response.failure"', "test_an_answer_that_breaks_off"),
    "items without content": ('event["item"].get("content") or []', 'event["item"]["content"]', "test_survives"),
    "deltas only": ('"response.output_item.done" and', '"" and', "test_survives"),
    "a place for keys left out": ('key_headers = ("x-stamp",)', "key_headers = ()", "test_the_key_is_read"),
    "values taken on trust": (
        "if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):",
        "if not isinstance(lines, list):",
        "test_odd_requests",
    ),
    "errors with a fault": ('"where": error.param', '"where": error.param.lower()', "test_unknown_paths"),
}
QUICK = ("errors as they came", "a failure in silence")


def test_faults_are_found(tmp_path):
    assert_found(tmp_path, *QUICK)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_alone(tmp_path, fault):
    assert_found(tmp_path, fault, tests="TestBoundLetters" if fault == "no framing" else "TestLetters")


def assert_found(tmp_path, *faults, tests="TestLetters"):
    """Assert that a dialect with ``faults`` fails the tests of the contract that are named with them."""
    planted = LETTERS
    for sound, faulty, _ in map(FAULTS.get, faults):
        assert LETTERS.count(sound) == 1
        planted = planted.replace(sound, faulty)
    failing = [FAULTS[fault][2] for fault in faults]
    (tmp_path / "letters.py").write_text(planted, encoding="utf-8")
    (tmp_path / "test_contract.py").write_text(
        (HERE / "test_contract.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            f"{tests} and ({' or '.join(failing)})",
            "test_contract.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and all(f"{tests}::{test}" in done.stdout for test in failing), done.stdout
