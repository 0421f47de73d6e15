"""Plugins: discovery, checks, and calls of their hooks."""

import copy
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
from floway_core.contexts import Services, SnapshotCommitContext
from floway_core.errors import StartupError
from floway_core.protocol import headers
from floway_core.provider import Provider
from floway_core.settings import Setting
from floway_core.storage.migrate import CORE, MigrationSource

GROUP = "floway"
CORE_PACKAGE = "floway-core"
LIFECYCLE = ("on_attempt_start", "prepare_responses_request", "on_snapshot_commit")

log = logging.getLogger("floway.plugins")

T = TypeVar("T")

Hook = Callable[..., object]
"""One plugin's implementation of a hook; takes keyword arguments."""


class PluginError(StartupError):
    """A plugin has a fault. The message names the plugin."""


def build_plugin_manager(only: Container[str] | None = None) -> pluggy.PluginManager:
    """Load and check the plugins of the entry-point group ``floway``, in the order of their names.

    :param only: names of the plugins to load; None: all.
    :raises PluginError: a plugin cannot be imported, needs another version of core, or implements a hook that does not
        exist or does not fit its specification.
    """
    manager = pluggy.PluginManager("floway")
    manager.add_hookspecs(hookspecs)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        if only is not None and point.name not in only:
            continue
        origin = f"{point.name!r} ({point.dist.name} {point.dist.version})" if point.dist else f"{point.name!r}"
        if required := _unmet_requirement(point.dist):
            raise PluginError(f"Plugin {origin} needs floway-core {required}, but this is floway-core {__version__}.")
        try:
            plugin = point.load()
        except Exception as error:  # code of a third party may raise anything
            raise PluginError(f"Plugin {origin} cannot be imported: {_one_line(error)}") from error
        register_plugin(manager, plugin, point.name)
    return manager


def _unmet_requirement(dist: importlib.metadata.Distribution | None) -> str | None:
    """Return the versions of core that a plugin's package requires, if the running version is not among them."""
    for requirement in map(Requirement, (dist and dist.requires) or ()):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name == CORE_PACKAGE and not requirement.specifier.contains(__version__, prereleases=True):
            return str(requirement.specifier)
    return None


def register_plugin(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Add ``plugin`` to ``manager`` and check its hooks.

    :raises PluginError: the name is taken, or a hook does not exist or does not fit its specification.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"Plugin {name!r} is unusable: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# ----------------------------------------------------------------------------------------------------- registration
def declared_settings(manager: pluggy.PluginManager) -> list[Setting]:
    """Return the settings of all plugins."""
    return [setting for _, settings in _collect_lists(manager, "register_settings", Setting) for setting in settings]


def migration_sources(manager: pluggy.PluginManager) -> list[MigrationSource]:
    """Return core's migrations, then those of each plugin."""
    return [CORE, *(source for _, source in named_migration_sources(manager))]


def named_migration_sources(manager: pluggy.PluginManager) -> list[tuple[str, MigrationSource]]:
    """Return (plugin name, migrations) of the plugins that have migrations."""
    sources = list(_call_each(manager, "register_migrations"))
    for name, source in sources:
        if not isinstance(source, MigrationSource):
            raise PluginError(f"Plugin {name!r}: register_migrations returned {source!r}, not a MigrationSource.")
    return sources


def collect_blueprints(manager: pluggy.PluginManager, blueprint_type: type[T]) -> list[T]:
    """Return the blueprints of all plugins.

    :param blueprint_type: Flask's class, a parameter because only the web room imports Flask.
    """
    plugins = _collect_lists(manager, "register_routes", blueprint_type)
    return [blueprint for _, blueprints in plugins for blueprint in blueprints]


def register_metrics(manager: pluggy.PluginManager, registry: CollectorRegistry, providers: "Providers") -> None:
    """Let every plugin add its metrics to ``registry``."""
    for _ in _call_each(manager, "register_metrics", registry=registry, providers=providers.by_kind):
        pass


def add_commands(manager: pluggy.PluginManager, cli: click.Group) -> None:
    """Let every plugin add its commands to ``cli``."""
    for _ in _call_each(manager, "register_commands", cli=cli):
        pass


def list_commands(manager: pluggy.PluginManager) -> dict[str, list[str]]:
    """Return the names of the commands that each plugin adds, by plugin."""
    commands = {}
    for name, plugin in manager.list_name_plugin():
        if caller := _hook_of(manager, "register_commands", plugin):
            group = click.Group()
            caller(cli=group)
            commands[name] = sorted(group.commands)
    return commands


def _call_each(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Call one hook plugin by plugin, so that an error can name the plugin; yield (plugin name, result)."""
    for name, plugin in manager.list_name_plugin():
        caller = _hook_of(manager, hook, plugin)
        if caller is None:
            continue
        try:
            results = caller(**arguments)
        except Exception as error:  # code of a third party may raise anything
            raise PluginError(f"Plugin {name!r} failed in {hook}: {_one_line(error)}") from error
        yield name, results[0] if results else None


def _collect_lists(
    manager: pluggy.PluginManager, hook: str, element_type: type[T], **arguments: Any
) -> Iterator[tuple[str, list[T]]]:
    """As ``_call_each``, for a hook that returns several objects of one type."""
    for name, result in _call_each(manager, hook, **arguments):
        elements = list(result) if isinstance(result, Iterable) else [result]
        if not all(isinstance(element, element_type) for element in elements):
            expected = f"a list of {element_type.__name__} objects"
            raise PluginError(f"Plugin {name!r}: {hook} returned {result!r}, not {expected}.")
        yield name, elements


def _hook_of(manager: pluggy.PluginManager, hook: str, plugin: object) -> pluggy.HookCaller | None:
    """Return a caller of ``hook`` for this plugin alone; None if the plugin does not implement the hook."""
    if plugin not in [implementation.plugin for implementation in getattr(manager.hook, hook).get_hookimpls()]:
        return None
    return manager.subset_hook_caller(hook, [other for other in manager.get_plugins() if other is not plugin])


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


# -------------------------------------------------------------------------------------------------------- lifecycle
@dataclass(frozen=True)
class ScopedHooks:
    """The lifecycle hooks for attempts of one provider: its owner's, and those of the observers."""

    owner_name: str
    owner: Mapping[str, Hook]
    """By name of the hook."""
    observers: Mapping[str, tuple[tuple[str, Hook], ...]]
    """(plugin name, hook) of each observer, by name of the hook."""

    def call(self, hook: str, ctx: object) -> None:
        """Call the owner, then each observer. Exceptions of observers are only logged."""
        if owner := self.owner.get(hook):
            owner(ctx=ctx)
        for name, observer in self.observers[hook]:
            _call_observer(hook, name, observer, ctx)

    def collect_metadata(
        self, previous: Mapping[str, Mapping[str, Any]], context: Callable[[dict[str, Any]], SnapshotCommitContext]
    ) -> dict[str, dict[str, Any]]:
        """Call ``on_snapshot_commit``, with a separate context for each plugin.

        :param previous: the metadata of the previous snapshot, by plugin.
        :param context: builds the context from the metadata of one plugin.
        :returns: the metadata of the new snapshot, by plugin. Plugins without this hook inherit theirs.
        """
        hook = "on_snapshot_commit"
        collected = {name: dict(own) for name, own in previous.items()}
        if owner := self.owner.get(hook):
            ctx = context(copy.deepcopy(collected.get(self.owner_name, {})))
            owner(ctx=ctx)
            collected[self.owner_name] = ctx.metadata
        for name, observer in self.observers[hook]:
            ctx = context(copy.deepcopy(collected.get(name, {})))
            if _call_observer(hook, name, observer, ctx):
                collected[name] = ctx.metadata
        return {name: own for name, own in collected.items() if own}


def _call_observer(hook: str, name: str, observer: Hook, ctx: object) -> bool:
    """Call one observer; return whether it succeeded."""
    try:
        observer(ctx=ctx)
    except Exception:  # a fault of one plugin must not affect others
        log.exception("Observer %r failed in %s", name, hook)
        return False
    return True


@dataclass(frozen=True)
class Providers:
    """All registered providers and their hooks, by provider kind."""

    by_kind: Mapping[str, Provider]
    hooks: Mapping[str, ScopedHooks]
    owners: Mapping[str, str]
    """Name of the plugin that registered the provider, by provider kind."""

    @property
    def underscore_headers(self) -> frozenset[str]:
        """Names of all headers with an underscore that a provider reads."""
        return frozenset(name for provider in self.by_kind.values() for name in provider.underscore_headers)


def build_providers(manager: pluggy.PluginManager, services: Services) -> Providers:
    """Collect the providers of all plugins, and scope the lifecycle hooks to them.

    :raises PluginError: two plugins claim one kind, or a plugin returns something else than providers.
    """
    by_kind: dict[str, Provider] = {}
    owners: dict[str, str] = {}
    # mypy wants a concrete class where one is passed as a value; here it only serves isinstance.
    registered = _collect_lists(manager, "register_providers", Provider, services=services)  # type: ignore[type-abstract]
    for name, providers in registered:
        for provider in providers:
            if not provider.kind:
                raise PluginError(f"Plugin {name!r}: the provider {type(provider).__name__} has no kind.")
            if provider.kind in owners:
                first = owners[provider.kind]
                raise PluginError(f"Plugins {first!r} and {name!r} both claim the provider kind {provider.kind!r}.")
            for header in provider.underscore_headers:
                if not headers.is_readable_with_underscore(header):
                    raise PluginError(f"Plugin {name!r}: {header!r} cannot be one of the underscore_headers.")
            by_kind[provider.kind] = provider
            owners[provider.kind] = name
    observers = {
        hook: tuple(
            (name, caller)
            for name, plugin in manager.list_name_plugin()
            if name not in owners.values() and (caller := _hook_of(manager, hook, plugin))
        )
        for hook in LIFECYCLE
    }
    hooks = {
        kind: ScopedHooks(
            owner,
            {hook: caller for hook in LIFECYCLE if (caller := _hook_of(manager, hook, manager.get_plugin(owner)))},
            observers,
        )
        for kind, owner in owners.items()
    }
    return Providers(by_kind, hooks, owners)
