"""The messages of the test kit when a plugin's tests are wrong."""

import importlib
from pathlib import Path

import pytest

from floway_core import testing
from floway_core.testing import Installation

CONTRACTS = sorted(file.stem for file in Path(testing.__file__).parent.glob("*contract*.py"))


def test_a_plugin_that_is_not_installed():
    with pytest.raises(LookupError, match=r"Not installed: nobody, nothing.*pip install -e"):
        Installation(installed=["echo", "nothing", "nobody"])


@pytest.mark.parametrize("name", CONTRACTS)
def test_failed_assertions_of_contracts_show_their_values(name):
    """Pytest has to rewrite the module for that, before its first import."""
    module = importlib.import_module(f"floway_core.testing.{name}")
    assert type(module.__loader__).__name__ == "AssertionRewritingHook"
