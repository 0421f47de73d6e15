"""The running gateway: everything that serving a request depends on."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import peewee
import pluggy

from floway_core import migrate, plugins
from floway_core.config import Settings, load_settings, without_password
from floway_core.contexts import Services
from floway_core.db import connect, run, transaction
from floway_core.errors import StartupError
from floway_core.plugins import Providers
from floway_core.secrets import SealBroken, SecretBox, read_or_create_key

log = logging.getLogger("floway")


@dataclass(frozen=True)
class Gateway:
    """One per process, shared by all threads."""

    services: Services
    providers: Providers

    @property
    def settings(self) -> Settings:
        return self.services.settings


def read_settings(manager: pluggy.PluginManager, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of core and of the plugins in ``manager``.

    :raises SettingsError: one is unknown or malformed.
    """
    return load_settings(os.environ if environ is None else environ, plugins.declared_settings(manager))


def open_services(settings: Settings, manager: pluggy.PluginManager) -> Services:
    """Make the data folder, open the database and bring its schema up to date.

    :raises StartupError: one of them cannot be done.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartupError(f"The data folder {settings.data_dir} cannot be made: {error.strerror}.") from error
    key = settings.secret_key or read_or_create_key(settings.data_dir / "secret.key")
    database = connect(settings.database_url)
    try:
        _keep_private(database)
        for name in migrate.apply(database, plugins.migration_sources(manager)):
            log.info("Applied migration %s", name)
    except peewee.ImproperlyConfigured as error:
        raise StartupError("PostgreSQL needs its driver: pip install floway-core[postgresql]") from error
    except (peewee.DatabaseError, OSError) as error:
        shown = without_password(settings.database_url)
        raise StartupError(f"The database {shown} cannot be used: {' '.join(str(error).split())}") from error
    secrets = SecretBox(key)
    _check_key(database, secrets)
    return Services(settings, database, secrets)


def _check_key(database: peewee.Database, secrets: SecretBox) -> None:
    """Warn of a wrong or lost secret key, which would show only when a credential is needed.

    It is no reason not to start: keys and conversations do not depend on it.
    """
    with database.connection_context():
        rows = run(database, "SELECT sealed FROM secret_checks WHERE id = 1").fetchall()
        if not rows:
            sql = "INSERT INTO secret_checks (id, sealed) VALUES (1, ?) ON CONFLICT DO NOTHING"
            with transaction(database):
                run(database, sql, secrets.seal("floway"))
            rows = run(database, "SELECT sealed FROM secret_checks WHERE id = 1").fetchall()
    try:
        secrets.open(rows[0][0])
    except SealBroken as error:
        log.warning("%s", error.message)


def _keep_private(database: peewee.Database) -> None:
    """A new SQLite file, and what SQLite puts beside it, is for its owner alone: it holds conversations."""
    if isinstance(database, peewee.SqliteDatabase):
        os.close(os.open(database.database, os.O_RDWR | os.O_CREAT, 0o600))


def open_gateway(settings: Settings, manager: pluggy.PluginManager) -> Gateway:
    """The gateway, ready to serve.

    :raises StartupError: it is not.
    """
    services = open_services(settings, manager)
    return Gateway(services, plugins.build_providers(manager, services))
