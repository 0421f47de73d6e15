"""Finding plugins, checking them, and calling their hooks in scope."""

import copy
import importlib.metadata
import logging
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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


class PluginError(StartupError):
    """A plugin is at fault; the message names it."""


def build_plugin_manager(only: Container[str] | None = None) -> pluggy.PluginManager:
    """Load and check every plugin installed under the entry-point group ``floway``, in the order of their names.

    :param only: names of plugins; all others are left out.
    :raises PluginError: a plugin cannot be imported, is made for another version of core, or implements a hook that
        does not exist or does not fit.
    """
    manager = pluggy.PluginManager("floway")
    manager.add_hookspecs(hookspecs)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        if only is not None and point.name not in only:
            continue
        origin = f"{point.name!r} ({point.dist.name} {point.dist.version})" if point.dist else f"{point.name!r}"
        if missed := _missed_core(point.dist):
            raise PluginError(f"Plugin {origin} needs floway-core {missed}, but this is floway-core {__version__}.")
        try:
            plugin = point.load()
        except Exception as error:  # a stranger's module may fail in any way
            raise PluginError(f"Plugin {origin} cannot be imported: {_one_line(error)}") from error
        register(manager, plugin, point.name)
    return manager


def _missed_core(dist: importlib.metadata.Distribution | None) -> str | None:
    """The versions of core that a plugin's package asks for, if the running one is none of them."""
    for required in map(Requirement, (dist and dist.requires) or ()):
        name = re.sub(r"[-_.]+", "-", required.name).lower()
        if name == CORE_PACKAGE and not required.specifier.contains(__version__, prereleases=True):
            return str(required.specifier)
    return None


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
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
    """The settings of all plugins."""
    return [setting for _, settings in _lists(manager, "register_settings", Setting) for setting in settings]


def migration_sources(manager: pluggy.PluginManager) -> list[MigrationSource]:
    """Core's migrations, then those of each plugin."""
    return [CORE, *(source for _, source in named_migration_sources(manager))]


def named_migration_sources(manager: pluggy.PluginManager) -> list[tuple[str, MigrationSource]]:
    """(plugin name, its migrations) of the plugins that have any."""
    found = list(_each(manager, "register_migrations"))
    for name, source in found:
        if not isinstance(source, MigrationSource):
            raise PluginError(f"Plugin {name!r}: register_migrations returned {source!r}, not a MigrationSource.")
    return found


def blueprints(manager: pluggy.PluginManager, kind: type) -> list[Any]:
    """The blueprints of all plugins.

    :param kind: Flask's class of them, which is not known here.
    """
    return [blueprint for _, found in _lists(manager, "register_routes", kind) for blueprint in found]


def register_metrics(manager: pluggy.PluginManager, registry: CollectorRegistry, providers: "Providers") -> None:
    """Let every plugin add its metrics to ``registry``."""
    for _ in _each(manager, "register_metrics", registry=registry, providers=providers.by_kind):
        pass


def add_commands(manager: pluggy.PluginManager, cli: click.Group) -> None:
    """Let every plugin add its commands to ``cli``."""
    for _ in _each(manager, "register_commands", cli=cli):
        pass


def commands(manager: pluggy.PluginManager) -> dict[str, list[str]]:
    """The names of the commands that each plugin adds, by plugin."""
    found = {}
    for name, plugin in manager.list_name_plugin():
        if caller := _only(manager, "register_commands", plugin):
            group = click.Group()
            caller(cli=group)
            found[name] = sorted(group.commands)
    return found


def _each(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """(plugin name, result) of one hook, plugin by plugin, so that a failure can be laid at the right door."""
    for name, plugin in manager.list_name_plugin():
        caller = _only(manager, hook, plugin)
        if caller is None:
            continue
        try:
            results = caller(**arguments)
        except Exception as error:  # a stranger's code may fail in any way
            raise PluginError(f"Plugin {name!r} failed in {hook}: {_one_line(error)}") from error
        yield name, results[0] if results else None


def _lists(manager: pluggy.PluginManager, hook: str, kind: type, **arguments: Any) -> Iterator[tuple[str, list]]:
    """As ``_each``, for a hook that returns several of ``kind``."""
    for name, found in _each(manager, hook, **arguments):
        listed = list(found) if isinstance(found, Iterable) else [found]
        if not all(isinstance(one, kind) for one in listed):
            raise PluginError(f"Plugin {name!r}: {hook} returned {found!r}, not a list of {kind.__name__} objects.")
        yield name, listed


def _only(manager: pluggy.PluginManager, hook: str, plugin: object) -> pluggy.HookCaller | None:
    """The caller of ``hook`` for this one plugin, or None when it does not implement it."""
    if plugin not in [implementation.plugin for implementation in getattr(manager.hook, hook).get_hookimpls()]:
        return None
    return manager.subset_hook_caller(hook, [other for other in manager.get_plugins() if other is not plugin])


def _direct(manager: pluggy.PluginManager, hook: str, plugin: object) -> Callable | None:
    """As ``_only``, for a lifecycle hook: the plugin's own function, unless there is something for pluggy to see to.
    What pluggy does to call one function takes longer than many a hook, in every request."""
    caller = _only(manager, hook, plugin)
    if caller is None:
        return None
    (found,) = caller.get_hookimpls()
    plain = found.argnames == ("ctx",) and not found.wrapper and not found.hookwrapper
    return found.function if plain else caller


@dataclass(frozen=True)
class Installed:
    """An installed plugin, for listing."""

    name: str
    distribution: str
    """Name and version of the pip package; ``-`` for a plugin that was registered by hand."""
    hooks: tuple[str, ...]


def installed(manager: pluggy.PluginManager) -> list[Installed]:
    """All loaded plugins."""
    points = {point.name: point.dist for point in importlib.metadata.entry_points(group=GROUP)}
    found = []
    for name, plugin in manager.list_name_plugin():
        dist = points.get(name)
        hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
        found.append(Installed(name, f"{dist.name} {dist.version}" if dist else "-", hooks))
    return found


# -------------------------------------------------------------------------------------------------------- lifecycle
@dataclass(frozen=True)
class ScopedHooks:
    """The lifecycle hooks as one provider's attempts see them: its owner's, and those of the observers."""

    owner_name: str
    owner: Mapping[str, Callable]
    observers: Mapping[str, tuple[tuple[str, Callable], ...]]

    def call(self, hook: str, ctx: object) -> None:
        """Call the owner, then each observer. What an observer raises is logged and goes no further."""
        if owner := self.owner.get(hook):
            owner(ctx=ctx)
        for name, observer in self.observers[hook]:
            _call_observer(hook, name, observer, ctx)

    def collect_metadata(
        self, previous: Mapping[str, Mapping[str, Any]], context: Callable[[dict[str, Any]], SnapshotCommitContext]
    ) -> dict[str, dict[str, Any]]:
        """Call ``on_snapshot_commit``, each plugin with a context of its own.

        :param previous: the metadata of the previous snapshot, by plugin.
        :param context: makes the context around one plugin's metadata.
        :returns: the metadata of the new snapshot, by plugin. Plugins that are not asked keep theirs.
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


def _call_observer(hook: str, name: str, observer: Callable, ctx: object) -> bool:
    """Whether it went well."""
    try:
        observer(ctx=ctx)
    except Exception:  # one plugin's fault must not become another's
        log.exception("Observer %r failed in %s", name, hook)
        return False
    return True


@dataclass(frozen=True)
class Providers:
    """All registered providers and their hooks, by provider kind."""

    by_kind: Mapping[str, Provider]
    hooks: Mapping[str, ScopedHooks]
    owners: Mapping[str, str]
    """Provider kind to the name of the plugin that registered it."""

    @property
    def underscore_headers(self) -> frozenset[str]:
        """All headers with an underscore in their name that a provider reads."""
        return frozenset(name for provider in self.by_kind.values() for name in provider.underscore_headers)


def build_providers(manager: pluggy.PluginManager, services: Services) -> Providers:
    """Ask every plugin for its providers.

    :raises PluginError: two plugins claim one kind, or a plugin returns something that is no provider.
    """
    by_kind: dict[str, Provider] = {}
    owners: dict[str, str] = {}
    for name, found in _lists(manager, "register_providers", Provider, services=services):
        for provider in found:
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
            if name not in owners.values() and (caller := _direct(manager, hook, plugin))
        )
        for hook in LIFECYCLE
    }
    hooks = {
        kind: ScopedHooks(
            owner,
            {hook: caller for hook in LIFECYCLE if (caller := _direct(manager, hook, manager.get_plugin(owner)))},
            observers,
        )
        for kind, owner in owners.items()
    }
    return Providers(by_kind, hooks, owners)
