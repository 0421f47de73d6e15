"""The documentation agrees with the code, its links lead somewhere, and the README is short."""

import re
import tomllib
from pathlib import Path

import pytest

from floway_core.cli import cli

ROOT = Path(__file__).parents[1]
CORE = ROOT / "floway_core"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")})
README_LINES = 150


def section(heading):
    """The text of a section of docs/architecture.md."""
    return re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)[1]


def table_of_packages():
    """The rows of the table: for each, the names in its first column."""
    rows = re.findall(r"^\| (`.*?) \|", section("Packages"), re.MULTILINE)
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]


def test_the_table_of_packages_is_the_import_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (
        contract["layers"]
        for contract in contracts
        if contract["type"] == "layers" and contract["layers"][0].startswith("floway_core.")
    )
    assert table_of_packages() == [set(row.replace("floway_core.", "").split(" | ")) for row in layers]


def test_the_table_names_every_package():
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}
    modules = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    assert set().union(*table_of_packages()) == packages - {"testing"} | modules


def test_the_files_of_the_request_exist():
    files = re.findall(r"`(\w+/\w+\.py)`", section("The path of a request"))
    assert len(files) > 20
    assert [file for file in files if not (CORE / file).is_file()] == []


def test_the_files_that_contributors_change_exist():
    files = re.findall(r"[ `]((?:floway_core|tests)/[\w/]+\.(?:py|json))\b", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(files) > 5
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_site_shows_every_page():
    configuration = (ROOT / "docs" / "conf.py").read_text()
    named = [page for page in PAGES if f"\n{page.relative_to(ROOT).with_suffix('')}\n" in configuration]
    assert set(PAGES) - set(named) == {ROOT / "README.md"}


def test_the_page_lists_every_command():
    page = (ROOT / "docs" / "running.md").read_text()
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `floway ")]
    for name, command in cli.commands.items():
        row = " ".join(row for row in rows if re.match(rf"\| `floway {name}\b", row))
        listed = set(re.findall(r"`(?:floway )?(?:[a-z]+ )?([a-z]+)`", row))
        assert row and listed >= set(getattr(command, "commands", ())), name
