"""The running gateway: everything that serving a request depends on."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import peewee
import pluggy

from floway_core.contexts import Services, Upstream
from floway_core.conversation.cache import HistoryCache
from floway_core.errors import GatewayError, StartupError
from floway_core.provider import Model
from floway_core.runtime import plugins
from floway_core.runtime.plugins import Providers
from floway_core.secrets import KEY_FILE, DecryptionError, SecretBox, new_key, read_or_create_key
from floway_core.settings import Settings, load_settings, without_password
from floway_core.storage import encrypted_columns, migrate
from floway_core.storage.db import DATABASE_ERRORS, connect, in_memory
from floway_core.storage.leases import Leases
from floway_core.storage.usage import UsageBuffer

log = logging.getLogger("floway")


class ShutdownSignal:
    """The moment from which nobody may wait for an upstream any longer, because this process ends."""

    def __init__(self) -> None:
        self._seen, self._held = socket.socketpair()

    def fileno(self) -> int:
        """A descriptor that becomes readable then."""
        return self._seen.fileno()

    def announce(self) -> None:
        """It is now."""
        self._held.close()


@dataclass(frozen=True)
class PendingModelList:
    """A model list that is being waited for."""

    models: Future[Sequence[Model]]
    started: float
    """On the monotonic clock."""


@dataclass(frozen=True)
class Gateway:
    """One per process, shared by all threads."""

    services: Services
    providers: Providers
    leases: Leases
    history_cache: HistoryCache
    pending_model_lists: dict[str, PendingModelList] = field(default_factory=dict)
    """The model lists that are being waited for, by upstream id."""
    account_refusals: dict[str, str] = field(default_factory=dict)
    """What this process knows of upstreams that refuse their accounts: a sentence, by upstream id."""
    shutdown: ShutdownSignal = field(default_factory=ShutdownSignal)
    usage: UsageBuffer = field(default_factory=UsageBuffer)
    """What the keys have used, and the database does not hold yet."""

    @property
    def settings(self) -> Settings:
        return self.services.settings

    def unavailable_reason(self, upstream: Upstream) -> str | None:
        """Why ``upstream`` cannot serve now, in a sentence without secrets; None when nothing is known against it."""
        provider = self.providers.by_kind.get(upstream.kind)
        if provider is None:
            return f"The plugin of provider {upstream.kind!r} is not installed."
        try:
            return provider.unavailable_reason(upstream) or self.account_refusals.get(upstream.id)
        except GatewayError as error:
            return error.message
        except DATABASE_ERRORS:
            raise
        except Exception:  # a stranger's code may fail in any way
            log.exception("The plugin of upstream %s does not know whether it can serve", upstream.name)
            return f"The plugin of provider {upstream.kind!r} has a fault, which is in the log."


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
    secrets = secret_box(settings)
    database = connect(settings.database_url, settings.database_timeout)
    with database_errors(settings):
        _keep_private(database)
        for name in migrate.apply(database, plugins.migration_sources(manager)):
            log.info("Applied migration %s", name)
    # No reason not to start: keys and conversations do not depend on it.
    if not encrypted_columns.is_current(database, secrets):
        log.warning("%s", DecryptionError().message)
    return Services(settings, database, secrets)


def read_only_services(settings: Settings, manager: pluggy.PluginManager) -> Services:
    """The services of an installation for who only looks at it: no folder, database or secret key is made.

    Where there is no database yet, an empty one in memory stands for it, and where there is no secret key, one that is
    forgotten. A database of an older version is brought up to date all the same: else it could not be read.

    :raises StartupError: what is there cannot be used.
    """
    has_key = settings.secret_key or (settings.data_dir / KEY_FILE).exists()
    secrets = secret_box(settings) if has_key else SecretBox(new_key())
    database = database_in_use(settings) or in_memory()
    with database_errors(settings):
        for name in migrate.apply(database, plugins.migration_sources(manager)):
            log.info("Applied migration %s", name)
    if (words := encrypted_columns.words(database)) and not secrets.opens(words[-1]):
        log.warning("%s", DecryptionError().message)
    return Services(settings, database, secrets)


def secret_box(settings: Settings) -> SecretBox:
    """What encrypts stored credentials; its key is made if there is none.

    :raises StartupError: the key cannot be read or made.
    """
    if settings.secret_key:
        return SecretBox(settings.secret_key)
    file = settings.data_dir / KEY_FILE
    return SecretBox(read_or_create_key(file), file)


def existing_database(settings: Settings) -> peewee.Database:
    """The database as it is: neither made nor brought up to date.

    :raises StartupError: SQLite's file does not exist.
    """
    database = connect(settings.database_url, settings.database_timeout)
    if isinstance(database, peewee.SqliteDatabase) and not os.path.exists(database.database):
        raise StartupError(f"There is no database {database.database} yet; `floway migrate` makes it.")
    return database


def database_in_use(settings: Settings) -> peewee.Database | None:
    """The database as it is; None when no Floway has used it yet.

    :raises StartupError: it cannot be used.
    """
    database = connect(settings.database_url, settings.database_timeout)
    if isinstance(database, peewee.SqliteDatabase) and not os.path.exists(database.database):
        return None
    with database_errors(settings), database.connection_context():
        return database if database.table_exists(migrate.CORE.table) else None


@contextlib.contextmanager
def database_errors(settings: Settings) -> Iterator[None]:
    """Say in one line what the database has against what is done in the block.

    :raises StartupError: it cannot be used.
    """
    try:
        yield
    except peewee.ImproperlyConfigured as error:
        raise StartupError("PostgreSQL needs its driver: pip install floway-core[postgresql]") from error
    except (peewee.DatabaseError, peewee.InterfaceError, OSError) as error:
        shown = without_password(settings.database_url)
        raise StartupError(f"The database {shown} cannot be used: {' '.join(str(error).split())}") from error


def _keep_private(database: peewee.Database) -> None:
    """A new SQLite file, and what SQLite puts beside it, is for its owner alone: it holds conversations."""
    if isinstance(database, peewee.SqliteDatabase):
        os.close(os.open(database.database, os.O_RDWR | os.O_CREAT, 0o600))


def open_gateway(settings: Settings, manager: pluggy.PluginManager) -> Gateway:
    """The gateway, ready to serve.

    :raises StartupError: it is not.
    """
    return make_gateway(open_services(settings, manager), manager)


def make_gateway(services: Services, manager: pluggy.PluginManager) -> Gateway:
    """The gateway around ``services``, with the providers of the plugins in ``manager``.

    :raises StartupError: a plugin is at fault.
    """
    return Gateway(
        services,
        plugins.build_providers(manager, services),
        Leases(services.database),
        HistoryCache(services.settings.history_cache_bytes),
    )
