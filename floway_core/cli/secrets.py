"""``floway secrets``: another secret key."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import click

from floway_core.cli.context import Session
from floway_core.errors import StartupError
from floway_core.runtime import plugins
from floway_core.secrets import KEY_FILE, generate_key, read_or_create_key, split_keys, write_keys
from floway_core.storage import encrypted_columns, migrate

IN_SETTINGS = (
    "The secret key comes from the settings, which are yours to change: put a line with a new key {place}, restart all "
    "processes on all hosts, and run this again."
)
UNDER_WAY = "A rotation is under way: end it with `floway secrets rotate --finish` first."
STRANGERS = (
    "The database has tables of plugins that are not installed ({names}), and what they have sealed would get lost. "
    "Install them; if nobody needs them any more, `floway migrate --to NAME/0` removes their tables."
)
NOT_YET = "Nothing is sealed with the new key yet: run `floway secrets rotate` first."


@click.group("secrets")
def secrets_group() -> None:
    """The secret key, which encrypts stored credentials."""


@secrets_group.command()
@click.option("--prepare", "step", flag_value="prepare", help="Before, with several hosts: the new key only opens.")
@click.option("--finish", "step", flag_value="finish", help="Afterwards: forget the old key.")
@click.pass_obj
def rotate(session: Session, step: str | None) -> None:
    """Make a new secret key, and seal everything stored with it. The old one opens until --finish.

    Running servers go on serving. With several hosts run --prepare first, and copy secret.key to all of them after
    each of the three steps. It can be run again after a crash at any moment.
    """
    if wrong := encrypted_columns.describe_mismatch(session.services.database, session.services.secrets):
        raise StartupError(f"{wrong} {encrypted_columns.REMEDY}")
    if strangers := migrate.unknown_migrations(session.services.database, plugins.migration_sources(session.manager)):
        raise StartupError(STRANGERS.format(names=", ".join(strangers)))
    with _alone(session.settings.data_dir):
        {"prepare": _prepare, "finish": _finish, None: _rotate}[step](session)


def _prepare(session: Session) -> None:
    keys, file = _keys(session)
    if len(keys) > 1:
        raise StartupError(UNDER_WAY)
    if file is None:
        raise StartupError(IN_SETTINGS.format(place="below it"))
    write_keys(file, [*keys, generate_key()])
    click.echo(f"{file} has a new key, which only opens so far. Copy the file to the other hosts.")
    click.echo("Then: floway secrets rotate")


def _rotate(session: Session) -> None:
    (keys, file), database = _keys(session), session.services.database
    unused = encrypted_columns.find_unused_keys(database, keys)
    if not unused and len(keys) > 1:
        raise StartupError(UNDER_WAY)
    if file is not None and keys[0] not in unused:
        unused = unused or [generate_key()]
        keys = [*unused, *(key for key in keys if key not in unused)]
        write_keys(file, keys)
    elif keys[0] not in unused:
        raise StartupError(IN_SETTINGS.format(place="above it"))
    _renew(session, keys)
    if file is not None:
        click.echo(f"Copy {file} to the other hosts, if there are any, and add it to the backup.")
    click.echo(
        "The old key still opens. A minute later, or when all hosts have the file: floway secrets rotate --finish"
    )


def _finish(session: Session) -> None:
    (keys, file), database = _keys(session), session.services.database
    if encrypted_columns.find_unused_keys(database, keys):
        raise StartupError(NOT_YET)
    _renew(session, keys)  # what others have sealed with the old key since
    if len(keys) > 1 and file is None:
        click.echo("Nothing needs the old key any more: remove its line from the settings.")
    elif file is not None:
        write_keys(file, keys[:1])
        click.echo(f"{file} holds the new key alone. Copy the file to the other hosts, if there are any.")
    encrypted_columns.retire_older_keys(database, keys[0])


def _renew(session: Session, keys: list[str]) -> None:
    columns = encrypted_columns.list_columns(plugins.migration_sources(session.manager))
    renewal = encrypted_columns.reencrypt(session.services.database, columns, keys)
    click.echo(f"{renewal.changed} stored values were sealed with the old key, and are with the new one.")
    for column in sorted(set(renewal.unreadable)):
        count = renewal.unreadable.count(column)
        click.echo(f"{count} in {column} cannot be opened with any key; sign in, or give the key, again.", err=True)


def _keys(session: Session) -> tuple[list[str], Path | None]:
    """The keys, and the file that Floway keeps them in; None when they come from the settings."""
    if session.settings.secret_key:
        return split_keys(session.settings.secret_key), None
    file = session.settings.data_dir / KEY_FILE
    return split_keys(read_or_create_key(file)), file


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No two of them on one host: each would make a key of its own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StartupError("Another `floway secrets rotate` is running.") from None
    finally:
        os.close(handle)
