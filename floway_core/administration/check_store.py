"""Checks of ``floway doctor``: the database, its schema, the secret key, the API keys."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import peewee
import pluggy

from floway_core.administration.check_result import FAIL, OK, WARN, CheckResult
from floway_core.errors import StartupError
from floway_core.runtime import plugins
from floway_core.runtime.gateway import database_errors, existing_database
from floway_core.runtime.settings_loader import CONFIG_FILE, without_password
from floway_core.secrets import KEY_FILE, SecretBox, split_keys
from floway_core.settings import PREFIX, Settings
from floway_core.storage import encrypted_columns, keys, migrate
from floway_core.storage.db import POOL, select


# ----------------------------------------------------------------------------------------------------------- database
def open_database(
    settings: Settings, manager: pluggy.PluginManager
) -> tuple[peewee.Database | None, list[CheckResult]]:
    """Open the database without changing it, and check it.

    :returns: the database, and the results. None if it is unusable or does not have the schema of this version.
    """
    try:
        with database_errors(settings):
            database = existing_database(settings)
            with database.connection_context():
                if isinstance(database, peewee.SqliteDatabase):
                    condition = _check_sqlite(database)
                else:
                    condition = _check_postgresql(database, settings)
                schema = _check_schema(database, manager)
    except StartupError as error:
        remedy = "If this is the wrong database, correct FLOWAY_DATABASE_URL or FLOWAY_DATA_DIR."
        return None, [CheckResult("database", FAIL, str(error), remedy)]
    results = [condition, schema]
    is_usable = all(result.status != FAIL for result in results) and not schema.remedy
    return (database if is_usable else None), results


def _check_sqlite(database: peewee.SqliteDatabase) -> CheckResult:
    problems = [row[0] for row in select(database, "PRAGMA quick_check(1)")]
    if problems != ["ok"]:
        remedy = "Stop Floway and restore a backup; `sqlite3 FILE .recover` may recover later data."
        return CheckResult("database", FAIL, f"{database.database} is damaged: {' '.join(problems[0].split())}", remedy)
    mode = database.pragma("journal_mode")
    if mode != "wal":
        remedy = "Any start sets it, except on network file systems, which are not suitable for SQLite."
        return CheckResult("database", WARN, f"{database.database} has the journal mode {mode}, not wal.", remedy)
    return CheckResult("database", OK, f"{database.database} is intact, and has a write-ahead log")


def _check_postgresql(database: peewee.Database, settings: Settings) -> CheckResult:
    ((version,),) = select(database, "SHOW server_version")
    ((max_connections,),) = select(database, "SHOW max_connections")
    server = f"PostgreSQL {version} at {without_password(settings.database_url)}"
    connections = settings.workers * POOL["max_connections"]
    if connections > int(max_connections):
        remedy = f"Raise max_connections of the server above {connections} for each host, or lower FLOWAY_WORKERS."
        message = f"{server} allows {max_connections} connections; this host alone may need {connections}."
        return CheckResult("database", WARN, message, remedy)
    return CheckResult("database", OK, server)


def _check_schema(database: peewee.Database, manager: pluggy.PluginManager) -> CheckResult:
    sources = plugins.migration_sources(manager)
    try:
        migrate.refuse_newer(database, sources)
    except StartupError as error:
        remedy = "Install the newer version; or with that one: floway migrate --to (see docs/deployment.md)."
        return CheckResult("migrations", FAIL, str(error), remedy)
    if pending := migrate.pending(database, sources):
        remedy = "`floway migrate` or any start applies them; make a backup before."
        return CheckResult("migrations", WARN, f"not applied yet: {', '.join(pending)}", remedy)
    return CheckResult("migrations", OK, "the schema is that of this version")


# --------------------------------------------------------------------------------------------------------- secret key
LOST = (
    "Restore the key from the backup. Without it, run `floway secrets init --forget`: then accounts have to sign in "
    "again, and API keys of upstreams have to be entered again."
)


def secret_key(
    settings: Settings, manager: pluggy.PluginManager, database: peewee.Database, environ: Mapping[str, str]
) -> tuple[SecretBox | None, list[CheckResult]]:
    """Check the secret key.

    :returns: the box that decrypts the stored credentials, and the results. None if the key is missing or wrong.
    """
    file = settings.data_dir / KEY_FILE
    try:
        text = settings.secret_key or file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        return None, [CheckResult("secret key", FAIL, f"{file} cannot be read: {error}", LOST)]
    if not split_keys(text):
        return None, [CheckResult("secret key", FAIL, f"{file} is empty.", LOST)]
    box = SecretBox(text)
    if wrong := encrypted_columns.describe_mismatch(database, box):
        origin = _origin(settings, environ)
        remedy = LOST if origin == str(file) else _other_key(database, file, origin)
        return None, [CheckResult("secret key", FAIL, f"{wrong} It comes from {origin}.", remedy)]
    results = [
        CheckResult("secret key", FAIL, f"{count} values in {column} cannot be decrypted.", LOST)
        for column in encrypted_columns.list_columns(plugins.migration_sources(manager))
        if (count := sum(not box.can_decrypt(value) for value in encrypted_columns.read_values(database, column)))
    ]
    if len(split_keys(text)) > 1:
        remedy = "floway secrets rotate, then floway secrets rotate --finish"
        message = "A rotation is not finished: there are several keys."
        results.append(CheckResult("secret key", WARN, message, remedy))
    return box, results or [CheckResult("secret key", OK, "it decrypts all stored credentials")]


def _origin(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return where the secret key comes from: a variable, the configuration file, or the data folder."""
    variables = [name for name in (f"{PREFIX}SECRET_KEY", f"{PREFIX}SECRET_KEY_FILE") if environ.get(name)]
    if variables:
        return variables[0]
    return f"secret_key in {environ.get(CONFIG_FILE)}" if settings.secret_key else str(settings.data_dir / KEY_FILE)


def _other_key(database: peewee.Database, file: Path, origin: str) -> str:
    """Return the remedy for a wrong key in the settings. The key in the data folder may be the right one."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        text = ""
    fits = split_keys(text) and encrypted_columns.describe_mismatch(database, SecretBox(text)) is None
    return f"Unset {origin}: the key in {file} is the right one." if fits else f"Correct {origin}. {LOST}"


# ----------------------------------------------------------------------------------------------------------- API keys
def api_keys(database: peewee.Database) -> Iterator[CheckResult]:
    """Check that there is a valid API key."""
    now = time.time()
    rows = [row for row in keys.all_rows(database) if row.revoked_at is None]
    valid = [row for row in rows if row.expires_at is None or row.expires_at > now]
    if valid:
        expired = f", {len(rows) - len(valid)} expired" if len(rows) > len(valid) else ""
        count = select(database, "SELECT COUNT(*) FROM responses_conversations")[0][0]
        yield CheckResult("API keys", OK, f"{len(valid)} valid{expired}; {count} conversations are stored")
    else:
        yield CheckResult(
            "API keys", FAIL, "There is no valid key, so no client can send requests.", "floway keys create NAME"
        )
