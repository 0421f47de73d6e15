"""``floway secrets``: create and rotate the secret key."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import click

from floway_core.cli.confirm import confirm, yes_option
from floway_core.cli.context import Session
from floway_core.errors import StartupError
from floway_core.runtime import plugins
from floway_core.runtime.gateway import secret_key_problem
from floway_core.secrets import KEY_FILE, SecretBox, generate_key, read_or_create_key, split_keys, write_keys
from floway_core.storage import encrypted_columns, migrate

IN_SETTINGS = (
    "The secret key comes from the settings, which only you can change: put a line with a new key {position}, restart "
    "all processes on all hosts, and run this again."
)
ROTATION_UNFINISHED = "A rotation is not finished: run `floway secrets rotate --finish` first."
UNKNOWN_PLUGINS = (
    "The database has tables of plugins that are not installed ({names}), whose encrypted values would be lost. "
    "Install them; then `floway migrate --to NAME/0` removes the tables of those that are not needed any more."
)
NOT_ROTATED = "Nothing is encrypted with the new key yet: run `floway secrets rotate` first."


@click.group("secrets")
def secrets_group() -> None:
    """The secret key, which encrypts stored credentials."""


@secrets_group.command()
@click.option("--forget", is_flag=True, help="Delete the credentials that the key does not decrypt.")
@yes_option
@click.pass_obj
def init(session: Session, forget: bool, yes: bool) -> None:
    """Create the secret key if there is none.

    If stored credentials need a key that is lost, --forget deletes them and creates a new key. Accounts then have to
    sign in again, and API keys of upstreams have to be entered again. Asks first.
    """
    database, settings = session.services.database, session.settings
    problem = secret_key_problem(database, session.services.secrets)
    if problem is None:
        click.echo("The secret key exists, and is the key of the database.")
        return
    if not forget:
        raise StartupError(problem)
    confirm("This deletes all stored credentials that the secret key does not decrypt.", yes)
    keys = settings.secret_key or read_or_create_key(settings.data_dir / KEY_FILE)
    columns = encrypted_columns.list_columns(plugins.migration_sources(session.manager))
    count = encrypted_columns.forget_unreadable(database, columns, SecretBox(keys))
    click.echo(f"{count} stored credentials are deleted. `floway upstreams list` shows what to do next.")


@secrets_group.command()
@click.option("--prepare", "step", flag_value="prepare", help="First, with several hosts: the new key only decrypts.")
@click.option("--finish", "step", flag_value="finish", help="Last: remove the old key.")
@click.pass_obj
def rotate(session: Session, step: str | None) -> None:
    """Create a new secret key, and encrypt everything stored with it. The old key still decrypts until --finish.

    Running servers continue. With several hosts run --prepare first, and copy secret.key to all of them after
    each of the three steps. After a crash it can be run again.
    """
    if session.services.secrets.missing_file:
        raise StartupError(str(secret_key_problem(session.services.database, session.services.secrets)))
    if wrong := encrypted_columns.describe_mismatch(session.services.database, session.services.secrets):
        raise StartupError(f"{wrong} {encrypted_columns.REMEDY}")
    if unknown := migrate.unknown_migrations(session.services.database, plugins.migration_sources(session.manager)):
        raise StartupError(UNKNOWN_PLUGINS.format(names=", ".join(unknown)))
    with _exclusive(session.settings.data_dir):
        {"prepare": _prepare, "finish": _finish, None: _rotate}[step](session)


def _prepare(session: Session) -> None:
    keys, file = _read_keys(session)
    if len(keys) > 1:
        raise StartupError(ROTATION_UNFINISHED)
    if file is None:
        raise StartupError(IN_SETTINGS.format(position="below it"))
    write_keys(file, [*keys, generate_key()])
    click.echo(f"{file} has a new key, which can only decrypt so far. Copy the file to the other hosts.")
    click.echo("Then: floway secrets rotate")


def _rotate(session: Session) -> None:
    (keys, file), database = _read_keys(session), session.services.database
    unused = encrypted_columns.find_unused_keys(database, keys)
    if not unused and len(keys) > 1:
        raise StartupError(ROTATION_UNFINISHED)
    if file is not None and keys[0] not in unused:
        unused = unused or [generate_key()]
        keys = [*unused, *(key for key in keys if key not in unused)]
        write_keys(file, keys)
    elif keys[0] not in unused:
        raise StartupError(IN_SETTINGS.format(position="above it"))
    _encrypt_again(session, keys)
    if file is not None:
        click.echo(f"Copy {file} to the other hosts, if there are any, and add it to the backup.")
    click.echo(
        "The old key can still decrypt. A minute later, or when all hosts have the file: floway secrets rotate --finish"
    )


def _finish(session: Session) -> None:
    (keys, file), database = _read_keys(session), session.services.database
    if encrypted_columns.find_unused_keys(database, keys):
        raise StartupError(NOT_ROTATED)
    _encrypt_again(session, keys)  # values that other processes have encrypted with the old key meanwhile
    if len(keys) > 1 and file is None:
        click.echo("The old key is not needed any more: remove its line from the settings.")
    elif file is not None:
        write_keys(file, keys[:1])
        click.echo(f"{file} contains only the new key. Copy the file to the other hosts, if there are any.")
    encrypted_columns.retire_older_keys(database, keys[0])


def _encrypt_again(session: Session, keys: list[str]) -> None:
    columns = encrypted_columns.list_columns(plugins.migration_sources(session.manager))
    renewal = encrypted_columns.reencrypt(session.services.database, columns, keys)
    click.echo(f"{renewal.changed} stored values were encrypted again, with the new key.")
    for column in sorted(set(renewal.unreadable)):
        count = renewal.unreadable.count(column)
        click.echo(f"{count} in {column} cannot be decrypted with any key: sign in, or enter the key, again.", err=True)


def _read_keys(session: Session) -> tuple[list[str], Path | None]:
    """Return the keys, and their file; None instead of the file if they come from the settings."""
    if session.settings.secret_key:
        return split_keys(session.settings.secret_key), None
    file = session.settings.data_dir / KEY_FILE
    return split_keys(read_or_create_key(file)), file


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Exclude other rotations on this host: they would create another key.

    :raises StartupError: one is running.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StartupError("Another `floway secrets rotate` is running.") from None
    finally:
        os.close(handle)
