"""The contract of providers: the provider of docs/plugins.md passes it, and each mistake in it fails a test."""

import os
import subprocess
import sys

import pytest

from ..support.documented_projects import projects

pytestmark = pytest.mark.soak  # long: many processes, or many examples

PROJECT = "floway-parrot"
HOOKS = f"{PROJECT}/floway_parrot/__init__.py"
MIGRATION = f"{PROJECT}/floway_parrot/migrations/0001_passwords.py"

RECOVER = """
    def handle_error_response(self, ctx, refusal):
        from floway_core.errors import GatewayError

        raise GatewayError(refusal.status, "The parrot is unwell.")

    kind = "parrot\""""

# The test that finds it; the file, a text in it, and what stands there instead.
MISTAKES = {
    "each dispatch has an id of its own": (
        "test_prepares_the_same_request_every_time",
        (HOOKS, '    ctx.headers["x-turn"]', '    ctx.headers["x-id"] = str(ctx.dispatch)\n    ctx.headers["x-turn"]'),
    ),
    "the state is replaced between dispatches": (
        "test_prepares_the_same_request_every_time",
        (HOOKS, '    ctx.headers["x-turn"]', '    ctx.attempt.provider_state = ["new"]\n    ctx.headers["x-turn"]'),
    ),
    "the password is stored in plain text": (
        "test_no_secret_is_written_down",
        (HOOKS, "services.secrets.encrypt(file.read().strip())", "file.read().strip()"),
        (HOOKS, "services.secrets.decrypt(rows[0][0])", "rows[0][0]"),
    ),
    "the password is logged": (
        "test_no_secret_is_written_down",
        (
            HOOKS,
            '            ctx.headers["x-password"]',
            '            __import__("logging").getLogger("floway").debug(password); ctx.headers["x-password"]',
        ),
    ),
    "a sealed column is not declared": (
        "test_what_is_sealed_is_sealed_anew_with_another_key",
        (HOOKS, ', encrypted_columns=("parrot_passwords.sealed",)', ""),
    ),
    "a problem names the password": (
        "test_tells_problems_and_quotas_without_a_request",
        (
            HOOKS,
            "class GuardedParrot(Parrot):",
            "from floway_core.provider import Problem\n\n\nclass GuardedParrot(Parrot):\n"
            "    def find_problem(self, upstream):\n        return Problem('The password is pieces-of-eight.')\n",
        ),
    ),
    "an option has no help": (
        "test_declares_a_form_that_can_be_filled_in",
        (HOOKS, '"How it answers."', '""'),
    ),
    "rows stay behind": ("test_rows_go_with_their_upstream", (MIGRATION, ', on_delete="CASCADE"', "")),
    "there is no way back": (
        "test_migrates_from_nothing_and_back",
        (MIGRATION, 'migrator.migrate(migrator.drop_table("parrot_passwords"))', "pass"),
    ),
    "refusals are put into other words": (
        "test_relays_a_refusal_as_it_came",
        (HOOKS, '\n    kind = "parrot"', RECOVER),
    ),
    "what is unknown is dropped": (
        "test_passes_items_of_unknown_types",
        (
            HOOKS,
            "encode_body(ctx.body)",
            'encode_body({**ctx.body, "input": [i for i in ctx.body["input"] if i["type"] == "message"]})',
        ),
    ),
}


def run_contract(folder, files, *options):
    """Run the contract on a provider that is as good as installed."""
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    project = folder / PROJECT
    metadata = project / "floway_parrot-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: floway-parrot\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[floway]\nparrot = floway_parrot\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            project,
            *options,
            project / "tests",
        ],
        env={**os.environ, "PYTHONPATH": str(project)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def test_the_provider_of_the_documentation_keeps_it(tmp_path):
    told = run_contract(tmp_path, projects())
    assert " passed, 3 skipped" in told and "failed" not in told and "error" not in told, told


# One mistake in code and one in a migration; each starts pytest once.
IN_SHORT = ("the password is stored in plain text", "there is no way back")


@pytest.mark.parametrize(
    "mistake",
    [*IN_SHORT, *(pytest.param(more, marks=pytest.mark.soak) for more in MISTAKES if more not in IN_SHORT)],
)
def test_a_mistake_is_found(tmp_path, mistake):
    finder, *changes = MISTAKES[mistake]
    files = projects()
    for path, text, instead in changes:
        assert files[path].count(text) == 1
        files[path] = files[path].replace(text, instead)
    told = run_contract(tmp_path, files, "-x", "-k", finder)
    assert "1 failed" in told and f"TestContract::{finder}" in told, told
