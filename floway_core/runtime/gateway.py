"""The gateway object: everything that requests share, and how to open it."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import peewee
import pluggy

from floway_core.contexts import Services, Upstream
from floway_core.conversation.cache import HistoryCache
from floway_core.errors import GatewayError, StartupError
from floway_core.prices import Price
from floway_core.provider import Model, Problem
from floway_core.runtime import plugins
from floway_core.runtime.dialects import Dialects, build_dialects, check_underscore_headers
from floway_core.runtime.lifecycle import Providers, build_providers
from floway_core.runtime.memory import MemoryBudget
from floway_core.runtime.observers import NO_OBSERVERS, Observers, build_observers
from floway_core.runtime.plugin_calls import log_failures
from floway_core.runtime.settings_loader import load_settings, without_password
from floway_core.secrets import KEY_FILE, DecryptionError, SecretBox, SecretKeyMissing, generate_key, read_or_create_key
from floway_core.settings import Settings
from floway_core.storage import encrypted_columns, migrate, turn_leases
from floway_core.storage.db import connect, in_memory
from floway_core.storage.leases import Leases
from floway_core.storage.usage import UsageBuffer

log = logging.getLogger("floway")


class ShutdownSignal:
    """Announces to all threads that the process ends, so that they stop waiting for upstreams."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()

    def fileno(self) -> int:
        """A descriptor that becomes readable after ``announce``."""
        return self._receiver.fileno()

    def announce(self) -> None:
        """Signal the end of the process. It cannot be undone."""
        self._sender.close()


@dataclass(frozen=True)
class PendingModelList:
    """A model list that a thread is fetching."""

    models: Future[Sequence[Model]]
    started: float
    """Monotonic time, in seconds."""


@dataclass(frozen=True)
class Gateway:
    """Everything that requests share. One object per process, used by all threads."""

    services: Services
    manager: pluggy.PluginManager
    """The plugins."""
    providers: Providers
    dialects: Dialects
    leases: Leases
    """The leases of running requests of limited keys."""
    turn_leases: Leases
    """The leases of running turns that lock a conversation or keep it from deletion."""
    history_cache: HistoryCache
    unstored_cache: HistoryCache
    """Responses that are not stored, as long as their connection is open."""
    body_memory: MemoryBudget
    """The memory for the bodies of all running requests."""
    pending_model_lists: dict[str, PendingModelList] = field(default_factory=dict)
    """The model lists that are being fetched, by upstream id."""
    account_refusals: dict[str, str] = field(default_factory=dict)
    """Messages about upstreams that refused their account in this process, by upstream id."""
    shutdown: ShutdownSignal = field(default_factory=ShutdownSignal)
    usage: UsageBuffer = field(default_factory=UsageBuffer)
    """Usage that is not in the database yet."""
    observers: Observers = NO_OBSERVERS
    """The plugins that want the results of attempts and requests."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """The operator's price table."""

    @property
    def settings(self) -> Settings:
        """The settings of the services."""
        return self.services.settings

    def find_problem(self, upstream: Upstream) -> Problem | None:
        """Return why ``upstream`` cannot serve now, without secrets; None if it seems to work."""
        provider = self.providers.by_kind.get(upstream.kind)
        if provider is None:
            return Problem(f"The plugin of provider {upstream.kind!r} is not installed.")
        refusal = self.account_refusals.get(upstream.id)
        try:
            with log_failures(upstream, "find_problem"):
                return provider.find_problem(upstream) or (Problem(refusal) if refusal else None)
        except GatewayError as error:
            return Problem(error.message)
        return Problem(f"The plugin of provider {upstream.kind!r} has failed: see the log.")


def read_settings(manager: pluggy.PluginManager, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of core and of the plugins in ``manager``.

    :param environ: the environment; None: that of the process.
    :raises SettingsError: a setting is unknown or malformed.
    """
    return load_settings(os.environ if environ is None else environ, plugins.declared_settings(manager))


def open_services(settings: Settings, manager: pluggy.PluginManager) -> Services:
    """Create the data folder, open the database and migrate its schema.

    :raises StartupError: one of these failed.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartupError(f"The data folder {settings.data_dir} cannot be created: {error.strerror}.") from error
    database = connect(settings.database_url, settings.database_timeout)
    with database_errors(settings):
        _create_private(database)
        for name in migrate.apply(database, plugins.migration_sources(manager)):
            log.info("Applied migration %s", name)
    secrets = secret_box(settings, database, manager)
    # A warning only: API keys and conversations do not depend on the secret key.
    if problem := secret_key_problem(database, secrets):
        log.warning("%s", problem)
    return Services(settings, database, secrets)


def read_only_services(settings: Settings, manager: pluggy.PluginManager) -> Services:
    """Open the services for a command that only reads: create no folder, database or secret key.

    A missing database is replaced by an empty one in memory, a missing secret key by a random one. The database of an
    older version is migrated nevertheless, because it cannot be read otherwise.

    :raises StartupError: the folder, database or key exists and cannot be used.
    """
    database = database_in_use(settings) or in_memory()
    with database_errors(settings):
        for name in migrate.apply(database, plugins.migration_sources(manager)):
            log.info("Applied migration %s", name)
    file = settings.data_dir / KEY_FILE
    if settings.secret_key or _exists(file):
        secrets = secret_box(settings, database, manager)
    else:
        secrets = SecretBox(None if _needs_key(database, manager) else generate_key(), file)
    if encrypted_columns.read_checks(database) and (problem := secret_key_problem(database, secrets)):
        log.warning("%s", problem)
    return Services(settings, database, secrets)


def secret_box(settings: Settings, database: peewee.Database, manager: pluggy.PluginManager) -> SecretBox:
    """Return the box that encrypts stored credentials.

    A missing key is created, unless stored values need the missing one. Then the box has no key.

    :raises StartupError: the key cannot be read or created.
    """
    if settings.secret_key:
        return SecretBox(settings.secret_key)
    file = settings.data_dir / KEY_FILE
    if not _exists(file):
        if _needs_key(database, manager):
            return SecretBox(None, file)
        encrypted_columns.forget_keys(database)
    return SecretBox(read_or_create_key(file), file)


def secret_key_problem(database: peewee.Database, secrets: SecretBox) -> str | None:
    """Return what is wrong with the secret key; None if it is the key of the database. A new database adopts it."""
    file = secrets.missing_file
    if file:
        return SecretKeyMissing(file).message
    return None if encrypted_columns.is_current(database, secrets) else DecryptionError().message


def _needs_key(database: peewee.Database, manager: pluggy.PluginManager) -> bool:
    """Whether the database has encrypted values, or tables of plugins that are not installed, which may have some."""
    sources = plugins.migration_sources(manager)
    if not encrypted_columns.read_checks(database):
        return False
    columns = encrypted_columns.list_columns(sources)
    has_values = any(encrypted_columns.read_values(database, column) for column in columns)
    return has_values or bool(migrate.unknown_migrations(database, sources))


def existing_database(settings: Settings) -> peewee.Database:
    """Return the database without creating or migrating it.

    :raises StartupError: SQLite's file does not exist, or cannot be used.
    """
    database = connect(settings.database_url, settings.database_timeout)
    if isinstance(database, peewee.SqliteDatabase) and not _exists(database.database):
        raise StartupError(f"There is no database {database.database} yet; `floway migrate` creates it.")
    return database


def database_in_use(settings: Settings) -> peewee.Database | None:
    """Return the database without migrating it; None if it does not exist or has no schema yet.

    :raises StartupError: the database cannot be used.
    """
    database = connect(settings.database_url, settings.database_timeout)
    if isinstance(database, peewee.SqliteDatabase) and not _exists(database.database):
        return None
    with database_errors(settings), database.connection_context():
        return database if database.table_exists(migrate.CORE.table) else None


def _exists(file: str | Path) -> bool:
    """Whether there is a file.

    :raises StartupError: this user may not look.
    """
    try:
        os.stat(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartupError(f"{file} cannot be used: {error.strerror}.") from error
    return True


@contextlib.contextmanager
def database_errors(settings: Settings) -> Iterator[None]:
    """Convert database errors in the block to a message of one line.

    :raises StartupError: the database cannot be used.
    """
    try:
        yield
    except peewee.ImproperlyConfigured as error:
        raise StartupError("PostgreSQL needs its driver: pip install 'floway-core[postgresql]'") from error
    except (peewee.DatabaseError, peewee.InterfaceError, OSError) as error:
        url = without_password(settings.database_url)
        raise StartupError(f"The database {url} cannot be used: {' '.join(str(error).split())}") from error


def _create_private(database: peewee.Database) -> None:
    """Create a missing SQLite file that only its owner can use, because it contains conversations. SQLite creates its
    other files with the same mode."""
    if isinstance(database, peewee.SqliteDatabase):
        os.close(os.open(database.database, os.O_RDWR | os.O_CREAT, 0o600))


def open_gateway(settings: Settings, manager: pluggy.PluginManager) -> Gateway:
    """Open the services and build the gateway.

    :raises StartupError: the data folder, the database, the secret key or a plugin is at fault.
    """
    return make_gateway(open_services(settings, manager), manager)


def make_gateway(services: Services, manager: pluggy.PluginManager) -> Gateway:
    """Build the gateway around ``services``, with the providers and dialects of the plugins in ``manager``.

    :raises StartupError: a plugin is at fault.
    """
    providers, dialects = build_providers(manager, services), build_dialects(manager, services)
    check_underscore_headers(providers, dialects)
    return Gateway(
        services,
        manager,
        providers,
        dialects,
        Leases(services.database),
        Leases(services.database, renew=turn_leases.renew, delete=turn_leases.delete_all),
        HistoryCache(services.settings.history_cache_bytes),
        HistoryCache(services.settings.websocket_history_bytes),
        MemoryBudget(services.settings.body_memory_bytes),
        observers=build_observers(manager, providers),
        prices=services.settings.prices.prices if services.settings.prices else {},
    )
