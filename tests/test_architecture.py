"""Rules for the code: import directions, no provider's name in core, small files that state their purpose."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROVIDERS = re.compile("codex|chatgpt|anthropic|claude|gemini|copilot", re.IGNORECASE)
PROVIDER_WORDS = re.compile(
    r"usage_(limit_reached|not_included)|app_session|turn[-_]state|(?<![a-z_])(installation|window|thread|session)_id\b"
    r"|originator|client_(metadata|version)|additional_tools|models[-_]etag|plan_type"
)
"""Words of one provider's protocol, which say nothing to any other."""
LARGEST = 400

OWN = [*(ROOT / "floway_core").rglob("*.py"), *(ROOT / "migrations").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
CORE = [file for file in OWN if "e2e" not in file.parts and file != Path(__file__)]
ALL = [*OWN, *(file for file in (ROOT / "plugins").rglob("*.py") if "build" not in file.parts)]


def of_root(file):
    return str(file.relative_to(ROOT))


def lines_with(pattern, files):
    """The lines in which a pattern occurs, each behind its file and number."""
    return [
        f"{of_root(file)}:{number}: {line}"
        for file in files
        if pattern.search(text := file.read_text())
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def says_what_it_is_for(text):
    docstring = ast.get_docstring(ast.parse(text))
    return docstring and text.startswith(('"""', 'r"""')) and docstring.splitlines()[0].strip()


def test_the_import_contracts_hold():
    plugins = [str(folder) for folder in sorted((ROOT / "plugins").iterdir()) if folder.is_dir()]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as lint; lint()",
            "--no-cache",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *plugins]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout)


def test_the_contracts_name_every_module_of_core():
    told = (ROOT / "pyproject.toml").read_text()
    missing = {
        f"floway_core.{path.stem}"
        for path in (ROOT / "floway_core").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in ("__init__", "testing")
        if not re.search(rf"\bfloway_core\.{path.stem}\b", told)
    }
    assert missing == set()


def test_the_contracts_name_every_plugin():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    plugins = {f"floway_{file.parent.name}" for file in (ROOT / "plugins").glob("*/setup.cfg")}
    (forbidden,) = (row for row in told["contracts"] if row.get("source_modules") == ["floway_core"])
    (independent,) = (row for row in told["contracts"] if row["type"] == "independence")
    assert set(told["root_packages"]) == plugins | {"floway_core"}
    assert set(forbidden["forbidden_modules"]) == set(independent["modules"]) == plugins


def test_core_names_no_provider():
    assert [of_root(file) for file in CORE if PROVIDERS.search(file.name)] == []
    assert lines_with(PROVIDERS, CORE) == []


def test_core_uses_no_words_of_one_provider():
    assert lines_with(PROVIDER_WORDS, [file for file in CORE if "tests" not in file.parts]) == []


def test_every_file_is_small():
    lengths = {of_root(file): len(file.read_text().splitlines()) for file in ALL}
    assert {name: length for name, length in lengths.items() if length > LARGEST} == {}


def test_every_file_says_what_it_is_for():
    assert [of_root(file) for file in ALL if not says_what_it_is_for(file.read_text())] == []


def test_the_core_imports_no_test_kit():
    for file in (ROOT / "floway_core").rglob("*.py"):
        if "testing" not in file.parts:
            assert "floway_core.testing" not in file.read_text()


NEEDED_BY_THE_KIT = {
    "fixtures.py": "pytest",
    "contract.py": "pytest",
    "contract_base.py": "pytest",
    "answer_contract.py": "pytest",
    "body_contract.py": "pytest",
    "operator_contract.py": "pytest",
    "gateway_fixtures.py": "pytest",
    "dialect_contract.py": "pytest",
    "dialect_contract_base.py": "pytest",
    "dialect_answer_contract.py": "pytest",
    "dialect_error_contract.py": "pytest",
    "fuzz.py": "hypothesis",
    "in_process.py": "playhouse",
}


def test_the_kit_needs_the_standard_library_only():
    for file in (ROOT / "floway_core" / "testing").glob("*.py"):
        allowed = {*sys.stdlib_module_names, "floway_core", NEEDED_BY_THE_KIT.get(file.name)}
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, file


def test_no_module_of_core_does_anything_when_it_is_imported():
    """A module whose import touches the environment, the disk or the network cannot be used as a library."""
    modules = [
        ".".join(("floway_core", *file.relative_to(ROOT / "floway_core").with_suffix("").parts))
        for file in (ROOT / "floway_core").rglob("*.py")
        if file.stem not in ("__main__", "__init__", "wsgi")
        and NEEDED_BY_THE_KIT.get(file.name) not in ("pytest", "hypothesis")
    ]
    source = "\n".join(
        [
            "import sys",
            "def refuse(event, arguments):",
            "    if event.split('.')[0] in ('socket', 'sqlite3', 'subprocess') and event != 'socket.gethostname':",
            "        raise SystemExit(f'importing does {event} {arguments}')",
            "import asyncio, ssl, urllib3, requests, sqlite3, peewee, gunicorn.app.base, uuid6, flask",
            "from playhouse import pool, db_url, migrations",
            "sys.addaudithook(refuse)",
            *(f"import {name}" for name in sorted(modules)),
        ]
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
