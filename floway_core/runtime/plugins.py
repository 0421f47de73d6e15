"""Find and check plugins, and collect what they register."""

import importlib.metadata
import logging
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import pluggy
from packaging.requirements import Requirement
from prometheus_client import CollectorRegistry

from floway_core import __version__, hookspecs
from floway_core.client_setup import ClientSetup
from floway_core.contexts import Services
from floway_core.errors import StartupError
from floway_core.provider import Provider
from floway_core.settings import CORE_SETTINGS, Setting, SettingsError
from floway_core.storage.migrate import CORE, MigrationSource

GROUP = "floway"
OTHER_GROUPS = ("console_scripts", "gui_scripts", "pytest11")
"""Groups of entry points that the package of a plugin may use for other purposes."""

CORE_PACKAGE = "floway-core"

log = logging.getLogger("floway.plugins")

T = TypeVar("T")


class PluginError(StartupError):
    """A plugin is unusable. The message names the plugin."""


def build_plugin_manager(only: Container[str] | None = None) -> pluggy.PluginManager:
    """Load and check the plugins of the entry-point group ``floway``, in the order of their names.

    :param only: names of the plugins to load; None: all.
    :raises PluginError: a plugin cannot be imported, needs another version of core, or implements a hook that does not
        exist or does not fit its specification.
    """
    manager = pluggy.PluginManager("floway")
    manager.add_hookspecs(hookspecs)
    _warn_of_other_groups()
    origins: dict[str, str] = {}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        if only is not None and point.name not in only:
            continue
        origin = f"{point.name!r} ({point.dist.name} {point.dist.version})" if point.dist else f"{point.name!r}"
        if point.name in origins:
            raise PluginError(f"Two packages have plugins of one name: {origins[point.name]} and {origin}.")
        origins[point.name] = origin
        if required := _unmet_requirement(point.dist):
            raise PluginError(f"Plugin {origin} needs floway-core {required}, but this is floway-core {__version__}.")
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            raise PluginError(f"Plugin {origin} cannot be imported: {_one_line(error)}") from error
        register_plugin(manager, plugin, point.name)
    return manager


def _warn_of_other_groups() -> None:
    """Log entry points that look like plugins but are in another group, where they are not found."""
    points = [(dist, point) for dist in importlib.metadata.distributions() for point in dist.entry_points]
    for dist, point in points:
        in_similar_group = "floway" in point.group.lower()
        of_plugin = point.group not in OTHER_GROUPS and re.match(r"floway_(?!core\b)", point.value)
        if point.group != GROUP and (in_similar_group or of_plugin):
            log.warning(
                "%s is not loaded as a plugin: its entry point %r is in the group %r instead of %r.",
                *(dist.name, point.name, point.group, GROUP),
            )


def _unmet_requirement(dist: importlib.metadata.Distribution | None) -> str | None:
    """Return the versions of core that a plugin's package requires, if the running version is not among them."""
    for requirement in map(Requirement, (dist and dist.requires) or ()):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name == CORE_PACKAGE and not requirement.specifier.contains(__version__, prereleases=True):
            return str(requirement.specifier)
    return None


def register_plugin(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Add ``plugin`` to ``manager`` and check its hooks.

    :raises PluginError: the name already exists, or a hook does not exist or does not match its specification.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"Plugin {name!r} is unusable: {_one_line(error)}") from error
    marked = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
    unmarked = [hook for hook in vars(manager.hook) if hook not in marked and callable(getattr(plugin, hook, None))]
    if unmarked:
        raise PluginError(f"Plugin {name!r}: {unmarked[0]} lacks the marker: write @hookimpl above it.")
    if not marked:
        kind = f"the {type(plugin).__name__} {getattr(plugin, '__name__', '')!r}"
        log.warning("Plugin %r does nothing: its entry point names %s, which has no hook.", name, kind)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# ----------------------------------------------------------------------------------------------------- registration
def declared_settings(manager: pluggy.PluginManager) -> list[Setting]:
    """Return the settings of all plugins.

    :raises PluginError: a plugin declares a setting of core or of another plugin.
    """
    return [setting for _, settings in named_settings(manager) for setting in settings]


def named_settings(manager: pluggy.PluginManager) -> list[tuple[str, list[Setting]]]:
    """Return (plugin name, settings) of the plugins that have settings.

    :raises PluginError: as ``declared_settings``.
    """
    owners = {setting.name: "core" for setting in CORE_SETTINGS}
    declared = list(collect_lists(manager, "register_settings", Setting))
    for plugin, settings in declared:
        for setting in settings:
            if setting.name in owners:
                owner = owners[setting.name]
                raise PluginError(f"Plugin {plugin!r} declares the setting {setting.name!r}, which {owner!r} has.")
            owners[setting.name] = plugin
    return declared


def migration_sources(manager: pluggy.PluginManager) -> list[MigrationSource]:
    """Return core's migrations, then those of each plugin.

    :raises PluginError: as ``named_migration_sources``.
    """
    return [CORE, *(source for _, source in named_migration_sources(manager))]


def named_migration_sources(manager: pluggy.PluginManager) -> list[tuple[str, MigrationSource]]:
    """Return (plugin name, migrations) of the plugins that have migrations.

    :raises PluginError: a plugin returns something else, or names its migrations like core or another plugin.
    """
    sources = list(_call_each(manager, "register_migrations"))
    owners = {CORE.name: "core"}
    for name, source in sources:
        if not isinstance(source, MigrationSource):
            raise PluginError(f"Plugin {name!r}: register_migrations returned {source!r}, not a MigrationSource.")
        if source.name in owners:
            owner = owners[source.name]
            raise PluginError(f"Plugin {name!r} declares the migrations {source.name!r}, which {owner!r} has.")
        owners[source.name] = name
    return sources


def collect_blueprints(
    manager: pluggy.PluginManager, blueprint_type: type[T], services: Services
) -> Iterator[tuple[str, list[T]]]:
    """Yield (plugin name, blueprints) of the plugins that have routes.

    :param blueprint_type: Flask's class. It is a parameter because only ``floway_core.web`` imports Flask.
    """
    return collect_lists(manager, "register_routes", blueprint_type, services=services)


def client_setups(manager: pluggy.PluginManager) -> dict[str, ClientSetup]:
    """Return how clients are set up, by the name of the client, in alphabetical order.

    :raises PluginError: two plugins set up clients of the same name.
    """
    setups: dict[str, ClientSetup] = {}
    for plugin, declared in collect_lists(manager, "register_client_setups", ClientSetup):  # type: ignore[type-abstract]
        for setup in declared:
            if setup.name in setups:
                raise PluginError(f"Plugin {plugin!r} sets up the client {setup.name!r}, as another one does.")
            setups[setup.name] = setup
    return dict(sorted(setups.items()))


def register_metrics(
    manager: pluggy.PluginManager, registry: CollectorRegistry, providers: Mapping[str, Provider]
) -> None:
    """Let every plugin add its metrics to ``registry``.

    :param providers: all providers by kind.
    """
    for _ in _call_each(manager, "register_metrics", registry=registry, providers=providers):
        pass


def call_on_start(manager: pluggy.PluginManager, services: Services) -> None:
    """Let every plugin prepare to serve.

    :raises PluginError: one of them failed.
    """
    for _ in _call_each(manager, "on_start", services=services):
        pass


def add_commands(manager: pluggy.PluginManager, cli: click.Group) -> None:
    """Let every plugin add its commands to ``cli``.

    :raises PluginError: a plugin replaces a command of core or of another plugin.
    """
    before = _all_commands(cli)
    owners = dict.fromkeys(before, "core")
    for plugin, _ in _call_each(manager, "register_commands", cli=cli):
        after = _all_commands(cli)
        for path, command in before.items():
            if after.get(path) is not command:
                name = " ".join(path)
                raise PluginError(f"Plugin {plugin!r} replaces the command {name!r} of {owners[path]!r}.")
        owners.update({path: plugin for path in after if path not in owners})
        before = after


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Return all commands below ``group`` by their path of names."""
    commands: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        commands[*path, name] = command
        if isinstance(command, click.Group):
            commands |= _all_commands(command, (*path, name))
    return commands


def list_commands(manager: pluggy.PluginManager) -> dict[str, list[str]]:
    """Return the names of the commands that each plugin adds, by plugin."""
    commands = {}
    for name, plugin in manager.list_name_plugin():
        if caller := hook_of(manager, "register_commands", plugin):
            group = click.Group()
            caller(cli=group)
            commands[name] = sorted(group.commands)
    return commands


def _call_each(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Call one hook plugin by plugin, so that an error can name the plugin; yield (plugin name, result)."""
    for name, plugin in manager.list_name_plugin():
        caller = hook_of(manager, hook, plugin)
        if caller is None:
            continue
        try:
            results = caller(**arguments)
        except SettingsError:  # it names the setting, which the operator has to correct
            raise
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            raise PluginError(f"Plugin {name!r} failed in {hook}: {_one_line(error)}") from error
        yield name, results[0] if results else None


def collect_lists(
    manager: pluggy.PluginManager, hook: str, element_type: type[T], **arguments: Any
) -> Iterator[tuple[str, list[T]]]:
    """Call a hook that returns several objects of one type, plugin by plugin; yield (plugin name, objects).

    :raises PluginError: a plugin failed, or returned objects of another type.
    """
    for name, result in _call_each(manager, hook, **arguments):
        elements = list(result) if isinstance(result, Iterable) else [result]
        if not all(isinstance(element, element_type) for element in elements):
            expected = f"a list of {element_type.__name__} objects"
            raise PluginError(f"Plugin {name!r}: {hook} returned {result!r}, not {expected}.")
        yield name, elements


def hook_of(manager: pluggy.PluginManager, hook: str, plugin: object) -> Callable[..., Any] | None:
    """Return a caller of ``hook`` for this plugin alone; None if the plugin does not implement the hook."""
    if plugin not in [implementation.plugin for implementation in getattr(manager.hook, hook).get_hookimpls()]:
        return None
    return manager.subset_hook_caller(hook, [other for other in manager.get_plugins() if other is not plugin])


def function_of(manager: pluggy.PluginManager, hook: str, plugin: object) -> Callable[..., Any] | None:
    """Return a caller of a hook that runs for every request: the plugin's own function if pluggy would add nothing.

    Calling it directly takes a tenth of the time. Otherwise the result is that of ``hook_of``.
    """
    caller = hook_of(manager, hook, plugin)
    implementations = caller.get_hookimpls() if isinstance(caller, pluggy.HookCaller) else []
    if len(implementations) != 1:
        return caller
    (only,), specification = implementations, getattr(manager.hook, hook).spec
    takes_all = specification is not None and set(only.argnames) == set(specification.argnames)
    return only.function if takes_all and not (only.wrapper or only.hookwrapper) else caller


@dataclass(frozen=True)
class InstalledPlugin:
    """A loaded plugin, as ``floway plugins`` lists it."""

    name: str
    distribution: str
    """Name and version of the pip package; ``-`` for a plugin without one."""
    hooks: tuple[str, ...]


def list_installed(manager: pluggy.PluginManager) -> list[InstalledPlugin]:
    """Return all loaded plugins."""
    dists = {point.name: point.dist for point in importlib.metadata.entry_points(group=GROUP)}
    plugins = []
    for name, plugin in manager.list_name_plugin():
        dist = dists.get(name)
        hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
        plugins.append(InstalledPlugin(name, f"{dist.name} {dist.version}" if dist else "-", hooks))
    return plugins
