"""Core and plugins are released together: with one version, and with complete metadata."""

import ast
import configparser
import re
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import floway_core

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/setup.cfg"))


def configuration(project):
    """setup.cfg of a project."""
    parser = configparser.ConfigParser()
    parser.read(project / "setup.cfg")
    return parser


def package(plugin):
    """The folder of a plugin's package."""
    return plugin / f"floway_{plugin.name}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_has_the_version_of_core(plugin):
    (version,) = re.findall(r'^__version__ = "(.*)"$', (package(plugin) / "__init__.py").read_text(), re.MULTILINE)
    assert version == floway_core.__version__
    assert configuration(plugin)["metadata"]["version"] == f"attr: {package(plugin).name}.__version__"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_accepts_the_version_of_core(plugin):
    lines = configuration(plugin)["options"]["install_requires"].splitlines()
    (requirement,) = (Requirement(line) for line in lines if line.startswith("floway-core"))
    assert requirement.specifier.contains(floway_core.__version__)


def test_the_changelog_begins_with_this_version():
    heading = re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading[1] == floway_core.__version__


@pytest.mark.parametrize("project", [ROOT, *PLUGINS], ids=lambda path: path.name)
def test_a_project_names_its_packages_types_and_licence(project):
    folder = ROOT / "floway_core" if project == ROOT else package(project)
    found = {".".join((folder.name, *path.parent.relative_to(folder).parts)) for path in folder.rglob("__init__.py")}
    options = configuration(project)
    assert set(options["options"]["packages"].split()) - {"floway_core.migrations"} == found
    assert (folder / "py.typed").exists() and "py.typed" in options["options.package_data"][folder.name]
    assert options["metadata"]["license_expression"] == "MIT" and (project / "LICENSE").exists()


@pytest.mark.parametrize("project", [ROOT, *PLUGINS], ids=lambda path: path.name)
def test_a_project_requires_only_what_it_imports(project):
    folder = ROOT / "floway_core" if project == ROOT else package(project)
    nodes = [node for file in folder.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    providing = packages_distributions()
    imported = {
        name.lower().replace("_", "-") for module in modules for name in providing.get(module.partition(".")[0], ())
    }
    lines = configuration(project)["options"]["install_requires"].splitlines()
    required = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert required <= imported | {"floway-core"}
