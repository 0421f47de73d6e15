"""The lifecycle hooks for the attempts of each provider: of the plugin that owns it, and of the observers."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pluggy

from floway_core.contexts import Services, SnapshotCommitContext
from floway_core.protocol import jsontext
from floway_core.provider import Provider
from floway_core.runtime.observed import observed_attempt, read_only
from floway_core.runtime.plugins import PluginError, collect_lists, function_of

LIFECYCLE = ("on_attempt_start", "prepare_responses_request", "on_snapshot_commit")

Hook = Callable[..., object]
"""One plugin's implementation of a hook; takes keyword arguments."""

SLOW_SECONDS = 1.0
"""A call of an observer that takes longer is logged."""

log = logging.getLogger("floway.plugins")


@dataclass(frozen=True)
class ScopedHooks:
    """The lifecycle hooks for attempts of one provider."""

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
            _call_observer(hook, name, observer, read_only(ctx))

    def collect_observed_metadata(
        self, previous: Mapping[str, Mapping[str, Any]], context: Callable[[dict[str, Any]], SnapshotCommitContext]
    ) -> dict[str, dict[str, Any]]:
        """Call ``on_snapshot_commit`` of the observers, with a separate context for each.

        :param previous: the metadata of the previous snapshot, by plugin.
        :param context: builds the context from the metadata of one plugin.
        :returns: the metadata of the new snapshot, by plugin, without the owner's. Plugins without this hook inherit
            theirs.
        """
        hook = "on_snapshot_commit"
        collected = {name: dict(metadata) for name, metadata in previous.items()}
        for name, observer in self.observers[hook]:
            ctx = context(jsontext.deep_copy(collected.get(name, {})))
            ctx.attempt = observed_attempt(ctx.attempt)
            if _call_observer(hook, name, partial(_call_commit_hook, observer), ctx):
                collected[name] = ctx.metadata
        return collected

    def collect_metadata(
        self,
        observed: Mapping[str, dict[str, Any]],
        context: Callable[[dict[str, Any]], SnapshotCommitContext],
    ) -> dict[str, dict[str, Any]]:
        """Call ``on_snapshot_commit`` of the owner.

        :param observed: the result of ``collect_observed_metadata``.
        :param context: as in ``collect_observed_metadata``.
        :returns: the metadata of the new snapshot, by plugin.
        """
        collected = dict(observed)
        if owner := self.owner.get("on_snapshot_commit"):
            ctx = context(jsontext.deep_copy(collected.get(self.owner_name, {})))
            _call_commit_hook(owner, ctx)
            collected[self.owner_name] = ctx.metadata
        return {name: metadata for name, metadata in collected.items() if metadata}


def _call_observer(hook: str, name: str, observer: Hook, ctx: object) -> bool:
    """Call one observer; return whether it succeeded."""
    started_at = time.monotonic()
    try:
        observer(ctx=ctx)
    except (Exception, SystemExit):  # an observer must not affect the request
        log.exception("Observer %r failed in %s", name, hook)
        return False
    if (seconds := time.monotonic() - started_at) > SLOW_SECONDS:
        log.warning("Observer %r took %.1f seconds in %s", name, seconds, hook)
    return True


def _call_commit_hook(hook: Hook, ctx: SnapshotCommitContext) -> None:
    """Call ``on_snapshot_commit`` of one plugin.

    :raises TypeError, ValueError: the metadata cannot be stored; or as the hook.
    """
    hook(ctx=ctx)
    metadata: object = ctx.metadata
    if not isinstance(metadata, dict):
        raise TypeError(f"the metadata is {type(metadata).__name__} instead of dict")
    jsontext.dumps(metadata)


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

    :raises PluginError: two plugins claim one kind, or a plugin does not return providers.
    """
    by_kind: dict[str, Provider] = {}
    owners: dict[str, str] = {}
    # mypy wants a concrete class where one is passed as a value; here it only serves isinstance.
    registered = collect_lists(manager, "register_providers", Provider, services=services)  # type: ignore[type-abstract]
    for name, providers in registered:
        for provider in providers:
            if not provider.kind:
                raise PluginError(f"Plugin {name!r}: the provider {type(provider).__name__} has no kind.")
            if provider.kind in owners:
                first = owners[provider.kind]
                raise PluginError(f"Plugins {first!r} and {name!r} both claim the provider kind {provider.kind!r}.")
            by_kind[provider.kind] = provider
            owners[provider.kind] = name
    observers = {
        hook: tuple(
            (name, caller)
            for name, plugin in manager.list_name_plugin()
            if name not in owners.values() and (caller := function_of(manager, hook, plugin))
        )
        for hook in LIFECYCLE
    }
    hooks = {
        kind: ScopedHooks(
            owner,
            {hook: caller for hook in LIFECYCLE if (caller := function_of(manager, hook, manager.get_plugin(owner)))},
            observers,
        )
        for kind, owner in owners.items()
    }
    return Providers(by_kind, hooks, owners)
