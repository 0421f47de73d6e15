"""Checks of ``floway doctor`` that need no database: plugins, settings, files, limits of the system."""

import importlib.metadata
import os
import pwd
import resource
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pluggy

from floway_core import __version__
from floway_core.administration.check_result import FAIL, OK, WARN, CheckResult
from floway_core.errors import StartupError
from floway_core.runtime import plugins
from floway_core.runtime.resources import files_needed, threads_needed
from floway_core.runtime.settings_loader import CONFIG_FILE, is_client_variable, load_settings
from floway_core.secrets import KEY_FILE
from floway_core.settings import CORE_SETTINGS, PREFIX, Settings, SettingsError

LOW_SPACE_BYTES, CRITICAL_SPACE_BYTES = 2**30, 100 * 2**20
"""Free space in the file system of the data folder below which ``doctor`` warns, or fails."""


# ------------------------------------------------------------------------------------------------------------ plugins
def load_plugins() -> tuple[pluggy.PluginManager, list[CheckResult]]:
    """Load each plugin separately.

    :returns: a plugin manager with the working plugins, and the results.
    """
    usable, results = [], []
    for name in sorted({point.name for point in importlib.metadata.entry_points(group=plugins.GROUP)}):
        try:
            manager = plugins.build_plugin_manager(only=[name])
            plugins.declared_settings(manager)
            plugins.migration_sources(manager)
            usable.append(name)
        except StartupError as error:
            remedy = "Install a compatible version of it, or uninstall it: Floway does not start with it."
            results.append(CheckResult("plugins", FAIL, str(error), remedy))
    if usable or not results:
        installed = ", ".join(usable) or "none"
        results.append(CheckResult("plugins", OK, f"floway-core {__version__} with plugins: {installed}"))
    return plugins.build_plugin_manager(only=usable), results


# ----------------------------------------------------------------------------------------------------------- settings
def load_settings_one_by_one(
    manager: pluggy.PluginManager, environ: Mapping[str, str]
) -> tuple[Settings | None, list[CheckResult]]:
    """Load the settings, and check each separately.

    :returns: the settings without invalid ones, and the results. None if the others cannot be loaded, or if the name of
        the configuration file is invalid.
    """
    declared = plugins.declared_settings(manager)
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    results, valid = [], {}
    for name in sorted(variables):
        try:
            load_settings({name: variables[name]}, declared)
            valid[name] = variables[name]
        except SettingsError as error:
            results.append(CheckResult("settings", FAIL, str(error), "Correct or unset it; Floway does not start."))
    if CONFIG_FILE in variables and CONFIG_FILE not in valid:
        return None, results  # the file may contain all other settings
    try:
        settings = load_settings(valid, declared)
    except SettingsError as error:
        return None, [*results, CheckResult("settings", FAIL, str(error), "Correct it; Floway does not start.")]
    if not results:
        declared_variables = {setting.variable for setting in (*CORE_SETTINGS, *declared)}
        ignored = sorted(name for name in variables if is_client_variable(name) and name not in declared_variables)
        note = f"; {', '.join(ignored)}: for clients, not used here" if ignored else ""
        results.append(
            CheckResult("settings", OK, f"{len(variables) - len(ignored)} variables are set and valid{note}")
        )
    return settings, results


# -------------------------------------------------------------------------------------------------------------- files
def files(settings: Settings, environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Check permissions and owner of the data folder and the files in it, and the free space."""
    folder = settings.data_dir
    try:
        os.listdir(folder)
        os.stat(os.path.join(folder, "."))  # whether its files can be looked at
    except FileNotFoundError:
        remedy = "`floway migrate` or `floway serve` creates it. If it should exist, FLOWAY_DATA_DIR is wrong."
        yield CheckResult("files", WARN, f"The data folder {folder} does not exist.", remedy)
        return
    except OSError as error:
        remedy = "Run floway as the owner of the folder, or correct FLOWAY_DATA_DIR."
        yield CheckResult("files", FAIL, f"The data folder {folder} cannot be used: {error.strerror}.", remedy)
        return
    private = [folder / KEY_FILE, *sorted(folder.glob("*.db*"))]
    configured = [Path(environ[name]) for name in (f"{PREFIX}SECRET_KEY_FILE",) if environ.get(name)]
    wrong = [
        *_check_access(folder, 0o077, "700", WARN),
        *(result for file in private if file.exists() for result in _check_access(file, 0o077, "600", FAIL)),
        *(result for file in configured if os.path.exists(file) for result in _check_access(file, 0o007, "640", WARN)),
    ]
    yield from wrong or [CheckResult("files", OK, f"only {_user(os.geteuid())} can use {folder} and its files")]
    free = shutil.disk_usage(folder).free
    if free >= LOW_SPACE_BYTES:
        yield CheckResult("space", OK, f"{free >> 20} MiB are free for {folder}")
    else:
        status = WARN if free >= CRITICAL_SPACE_BYTES else FAIL
        remedy = "Free some space, or lower FLOWAY_RETENTION_DAYS and run `floway retention run`."
        yield CheckResult("space", status, f"Only {free >> 20} MiB are free for {folder}.", remedy)


def _check_access(file: Path, forbidden: int, mode: str, status: str) -> Iterator[CheckResult]:
    """Check mode and owner of a file.

    :param forbidden: bits of the mode that must not be set.
    :param mode: the mode to recommend.
    :param status: of the result if such a bit is set.
    """
    file_stat = file.stat()
    if stat.S_IMODE(file_stat.st_mode) & forbidden:
        message = f"{file} can be used by others (mode {stat.S_IMODE(file_stat.st_mode):o})."
        yield CheckResult("files", status, message, f"chmod {mode} {file}")
    if file_stat.st_uid != os.geteuid():
        message = f"{file} belongs to {_user(file_stat.st_uid)}, but this command runs as {_user(os.geteuid())}."
        yield CheckResult(
            "files", WARN, message, f"Run floway as {_user(file_stat.st_uid)}, or: chown {_user(os.geteuid())} {file}"
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# ------------------------------------------------------------------------------------------------------------- limits
def limits(settings: Settings) -> Iterator[CheckResult]:
    """Check that the system allows the open files and threads that the settings need."""
    files, allowed = files_needed(settings), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    threads, limit = settings.workers * threads_needed(settings), _thread_limit()
    setup = f"{settings.workers} workers with {settings.threads} threads"
    lacks_files = allowed != resource.RLIM_INFINITY and allowed < files
    if lacks_files:
        remedy = f"Raise it (ulimit -Hn; systemd: LimitNOFILE={files}), or lower FLOWAY_THREADS."
        yield CheckResult(
            "limits", WARN, f"{setup}: each may need {files} open files, and the limit is {allowed}.", remedy
        )
    if limit < threads:
        remedy = "Raise it (ulimit -u; systemd: TasksMax=; containers: --pids-limit), or lower FLOWAY_THREADS."
        yield CheckResult(
            "limits", WARN, f"{setup}: at most {threads} threads in all, and the limit is {limit:g}.", remedy
        )
    if not lacks_files and limit >= threads:
        yield CheckResult("limits", OK, f"{setup} fit the limits of open files and threads")


def _thread_limit() -> float:
    """Return the limit of threads: of the user or of the control group, whichever is lower."""
    of_user = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limits = [float(of_user)] if of_user >= 0 and os.geteuid() else []  # root has none
    try:
        of_group = Path("/sys/fs/cgroup/pids.max").read_text().strip()
    except OSError:
        of_group = "max"
    return min([*limits, *([float(of_group)] if of_group.isdigit() else [])], default=float("inf"))
