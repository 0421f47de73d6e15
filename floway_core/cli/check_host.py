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
from floway_core.cli.check_result import FAIL, OK, WARN, CheckResult
from floway_core.errors import StartupError
from floway_core.runtime import plugins
from floway_core.secrets import KEY_FILE
from floway_core.server.command import SPARE_THREADS, files_needed
from floway_core.settings import (
    CONFIG_FILE,
    CORE_SETTINGS,
    PREFIX,
    Settings,
    SettingsError,
    is_client_variable,
    load_settings,
)

LITTLE_SPACE, TOO_LITTLE_SPACE = 2**30, 100 * 2**20
"""Bytes."""


# ------------------------------------------------------------------------------------------------------------ plugins
def load_plugins() -> tuple[pluggy.PluginManager, list[CheckResult]]:
    """The plugins that can be used, each tried by itself."""
    usable, found = [], []
    for name in sorted({point.name for point in importlib.metadata.entry_points(group=plugins.GROUP)}):
        try:
            alone = plugins.build_plugin_manager(only=[name])
            plugins.declared_settings(alone)
            plugins.migration_sources(alone)
            usable.append(name)
        except StartupError as error:
            mend = "Install a version of it that fits, or uninstall it: Floway does not start beside it."
            found.append(CheckResult("plugins", FAIL, str(error), mend))
    if usable or not found:
        installed = ", ".join(usable) or "none"
        found.append(CheckResult("plugins", OK, f"floway-core {__version__} with plugins: {installed}"))
    return plugins.build_plugin_manager(only=usable), found


# ----------------------------------------------------------------------------------------------------------- settings
def load_settings_one_by_one(
    manager: pluggy.PluginManager, environ: Mapping[str, str]
) -> tuple[Settings | None, list[CheckResult]]:
    """The settings without those that are wrong; None when too little is known to go on."""
    declared = plugins.declared_settings(manager)
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    found, fitting = [], {}
    for name in sorted(given):
        try:
            load_settings({name: given[name]}, declared)
            fitting[name] = given[name]
        except SettingsError as error:
            found.append(CheckResult("settings", FAIL, str(error), "Correct or unset it; Floway does not start."))
    if CONFIG_FILE in given and CONFIG_FILE not in fitting:
        return None, found  # it may say where everything is
    try:
        settings = load_settings(fitting, declared)
    except SettingsError as error:
        return None, [*found, CheckResult("settings", FAIL, str(error), "Correct it; Floway does not start.")]
    if not found:
        own = {setting.variable for setting in (*CORE_SETTINGS, *declared)}
        ignored = sorted(name for name in given if is_client_variable(name) and name not in own)
        left = f"; {', '.join(ignored)}: for clients, not used here" if ignored else ""
        found.append(
            CheckResult("settings", OK, f"{len(given) - len(ignored)} variables are set, and understood{left}")
        )
    return settings, found


# -------------------------------------------------------------------------------------------------------------- files
def files(settings: Settings, environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Who may read the data folder and what is in it, whose it is, and whether there is room."""
    folder = settings.data_dir
    if not folder.is_dir():
        mend = "`floway migrate` makes it, or `floway serve`; if there should be one, FLOWAY_DATA_DIR is wrong."
        yield CheckResult("files", WARN, f"The data folder {folder} does not exist.", mend)
        return
    private = [folder / KEY_FILE, *sorted(folder.glob("*.db*"))]
    named = [Path(environ[name]) for name in (f"{PREFIX}SECRET_KEY_FILE",) if environ.get(name)]
    wrong = [
        *_unlike(folder, 0o077, "700", WARN),
        *(finding for file in private if file.exists() for finding in _unlike(file, 0o077, "600", FAIL)),
        *(finding for file in named if file.exists() for finding in _unlike(file, 0o007, "640", WARN)),
    ]
    yield from wrong or [CheckResult("files", OK, f"{folder} and what is in it are for {_user(os.geteuid())} alone")]
    free = shutil.disk_usage(folder).free
    if free >= LITTLE_SPACE:
        yield CheckResult("space", OK, f"{free >> 20} MiB are free for {folder}")
    else:
        status = WARN if free >= TOO_LITTLE_SPACE else FAIL
        mend = "Make room, or set FLOWAY_RETENTION_DAYS lower and run `floway retention run`."
        yield CheckResult("space", status, f"Only {free >> 20} MiB are free for {folder}.", mend)


def _unlike(file: Path, forbidden: int, mode: str, status: str) -> Iterator[CheckResult]:
    """What is wrong with the mode and the owner of a file."""
    found = file.stat()
    if stat.S_IMODE(found.st_mode) & forbidden:
        told = f"{file} can be used by others (mode {stat.S_IMODE(found.st_mode):o})."
        yield CheckResult("files", status, told, f"chmod {mode} {file}")
    if found.st_uid != os.geteuid():
        told = f"{file} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}."
        yield CheckResult(
            "files", WARN, told, f"Run floway as {_user(found.st_uid)}, or: chown {_user(os.geteuid())} {file}"
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# ------------------------------------------------------------------------------------------------------------- limits
def limits(settings: Settings) -> Iterator[CheckResult]:
    """Whether the system lets a worker have the files and the threads that its streams need."""
    files, allowed = files_needed(settings), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    threads, limit = settings.workers * (settings.threads + SPARE_THREADS), _thread_limit()
    told = f"{settings.workers} workers with {settings.threads} threads"
    scarce_files = allowed != resource.RLIM_INFINITY and allowed < files
    if scarce_files:
        mend = f"Raise it (ulimit -Hn; systemd: LimitNOFILE={files}), or set FLOWAY_THREADS lower."
        yield CheckResult(
            "limits", WARN, f"{told}: each may need {files} open files, and the limit is {allowed}.", mend
        )
    if limit < threads:
        mend = "Raise it (ulimit -u; systemd: TasksMax=; containers: --pids-limit), or set FLOWAY_THREADS lower."
        yield CheckResult(
            "limits", WARN, f"{told}: at most {threads} threads in all, and the limit is {limit:g}.", mend
        )
    if not scarce_files and limit >= threads:
        yield CheckResult("limits", OK, f"{told} fit the limits of open files and threads")


def _thread_limit() -> float:
    """Of the user, or of the control group, whichever is less."""
    of_user = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    found = [float(of_user)] if of_user >= 0 and os.geteuid() else []  # root has none
    try:
        of_group = Path("/sys/fs/cgroup/pids.max").read_text().strip()
    except OSError:
        of_group = "max"
    return min([*found, *([float(of_group)] if of_group.isdigit() else [])], default=float("inf"))
