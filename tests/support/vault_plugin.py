"""A provider whose upstreams have a sealed token, which it answers with; and a plugin that kills the command line."""

from floway_core.testing import write_plugin

SOURCE = '''
import json
from pathlib import Path

import click

from floway_core.cli import services as services_of
from floway_core.storage.db import execute, select
from floway_core.hookspecs import hookimpl
from floway_core.storage.migrate import MigrationSource
from floway_core.provider import IterableBody, Model, Problem, Provider, UpstreamResponse
from floway_core.storage import upstreams


class Vault(Provider):
    kind = "vault"

    def __init__(self, services):
        self.services = services

    def list_models(self, upstream):
        return [Model("vault", "test")]

    def token(self, upstream):
        rows = select(self.services.database, "SELECT token FROM vault_tokens WHERE upstream_id = ?", upstream.id)
        return self.services.secrets.decrypt(rows[0][0]) if rows and rows[0][0] else ""

    def find_problem(self, upstream):
        return None if self.token(upstream) else Problem("The vault is signed out.", "Sign in again.")

    def send(self, ctx):
        """Answers with the token and seals it anew, as if it had been renewed."""
        token = self.token(ctx.attempt.upstream)
        put(self.services, ctx.attempt.upstream.id, token)
        part = {"type": "output_text", "text": token, "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        answer = {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}
        body = IterableBody([json.dumps(answer).encode()])
        return UpstreamResponse(200, [("content-type", "application/json")], body)


def put(services, upstream_id, token):
    sealed = services.secrets.encrypt(token) if token else ""
    with services.database.connection_context():
        execute(services.database, "UPDATE vault_tokens SET token = ? WHERE upstream_id = ?", sealed, upstream_id)


@hookimpl
def register_migrations():
    return MigrationSource("vault", Path(__file__).parent / "vault_migrations", ("vault_tokens.token",))


@hookimpl
def register_providers(services):
    return [Vault(services)]


@hookimpl
def register_commands(cli):
    @cli.command("add-vault")
    @click.argument("name")
    @click.pass_context
    def add(context, name):
        services = services_of(context)
        upstream = upstreams.add(services.database, "vault", name)
        with services.database.connection_context():
            execute(services.database, "INSERT INTO vault_tokens (upstream_id, token) VALUES (?, '')", upstream.id)
        put(services, upstream.id, click.get_text_stream("stdin").read())
'''

MIGRATION = '''
"""Tokens."""

import peewee


def up(migrator, db):
    class Upstreams(db.Model):
        id = peewee.CharField(primary_key=True)

        class Meta:
            table_name = "upstreams"

    class Tokens(db.Model):
        upstream = peewee.ForeignKeyField(Upstreams, column_name="upstream_id", on_delete="CASCADE", primary_key=True)
        token = peewee.TextField()

        class Meta:
            table_name = "vault_tokens"

    db.create_tables([Tokens], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("vault_tokens"))
'''

KILLER = '''
"""Kills the process when a function of Floway is called or returns: TEST_DIE="call FILE FUNCTION NUMBER"."""

import os
import signal
import sys

from floway_core.hookspecs import hookimpl


@hookimpl
def register_settings():
    return []


if os.environ.get("TEST_DIE"):
    wanted, file, function, number = os.environ["TEST_DIE"].split()
    left = [int(number)]

    def profile(frame, event, argument):
        code = frame.f_code
        if event == wanted and code.co_name == function and code.co_filename.endswith(file):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
'''


def write(folder):
    """The plugins ``vault`` and ``killer``, in ``folder``."""
    (folder / "vault_migrations").mkdir(parents=True)
    (folder / "vault_migrations" / "0001_tokens.py").write_text(MIGRATION.lstrip())
    write_plugin(folder, "vault", SOURCE)
    write_plugin(folder, "killer", KILLER)
    return folder
