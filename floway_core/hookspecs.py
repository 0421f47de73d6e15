"""Every hook of Floway: the extension API on one page.

A plugin is a pip package with an entry point in the group ``floway``. The entry point names a module (or an object)
whose functions carry the marker ``hookimpl``. A function may omit the arguments that it does not need::

    from floway_core.hookspecs import hookimpl

    @hookimpl
    def register_providers(services):
        return [MyProvider(services)]

A plugin that registers a provider owns the upstreams of that kind. Its lifecycle hooks are called only for attempts on
those upstreams. A plugin without a provider is an observer. Its lifecycle hooks are called for every attempt. It cannot
affect requests: its contexts are read-only, their JSON values are copies, and any exception that it raises,
``SystemExit`` included, is logged with its name.
"""

# mypy: disable-error-code=empty-body
# pluggy reads the signatures and never calls the functions.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click
import pluggy
from prometheus_client import CollectorRegistry

from floway_core.client_setup import ClientSetup
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, SnapshotCommitContext
from floway_core.dialect import Dialect
from floway_core.provider import Provider
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.settings import Setting
from floway_core.storage.migrate import MigrationSource

if TYPE_CHECKING:
    from flask import Blueprint  # only the web room imports the web framework

hookspec = pluggy.HookspecMarker("floway")
hookimpl = pluggy.HookimplMarker("floway")


# ---------------------------------------------------------------------------------------------------- registration
@hookspec
def register_settings() -> Iterable[Setting]:
    """Declare the settings of the plugin.

    When: first of all hooks, before Floway reads its settings. A setting ``mine_url`` is read from the environment
    variable ``FLOWAY_MINE_URL`` or the TOML key ``mine_url``; its value is in ``services.settings.plugin["mine_url"]``.
    May change: nothing.
    Returns: the settings. Their names start with the provider kind or the plugin's name.
    If it raises: Floway does not start, and the error names the plugin.
    """


@hookspec
def register_migrations() -> MigrationSource:
    """Declare the plugin's schema migrations.

    When: before Floway uses the database. Core's migrations have run, so the plugin's tables may refer to core's.
    May change: nothing. The migrations create the plugin's own tables and leave all other tables alone.
    Returns: a name, a folder of numbered migrations, and the columns with values that ``services.secrets`` has
    encrypted. Each source has its own history.
    If it raises: Floway does not start, and the error names the plugin.
    """


@hookspec
def register_providers(services: Services) -> Iterable[Provider]:
    """Supply the plugin's providers, one object for each kind.

    When: once per process, after the migrations. Use no network, and read nothing from the database that may change:
    the objects serve all threads until the process ends.
    May change: nothing.
    Returns: the providers. Floway does not start if two plugins claim the same kind.
    If it raises: Floway does not start, and the error names the plugin.
    """


@hookspec
def register_dialects(services: Services) -> Iterable[Dialect]:
    """Supply further API formats for requests of clients, in addition to the Responses API.

    When: once per process, while the application is built, after ``register_providers``. Use no network: the objects
    serve all threads until the process ends.
    May change: nothing.
    Returns: the dialects. Floway does not start if two have one name, if one serves a path of core, of another
    dialect or of a blueprint and no claim distinguishes their requests, or if a method that its routes need is missing.
    If it raises: Floway does not start, and the error names the plugin.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to ``floway``, usually one group with the name of the provider kind.

    When: each time the command line starts. Commands reach the database through
    ``floway_core.cli.services(context)``, which opens it on first use. A command that only reads is a
    ``floway_core.cli.ReadOnlyCommand``: it creates nothing, and sees an empty installation where there is none yet.
    May change: ``cli``, by adding to it.
    Returns: nothing.
    If it raises: ``floway`` does not start, and the error names the plugin.
    """


@hookspec
def register_client_setups() -> Iterable[ClientSetup]:
    """Say how clients are set up, for ``floway setup NAME``.

    When: when that command runs. Use neither network nor database.
    May change: nothing.
    Returns: one object for each client. The command fails if two have one name.
    If it raises: the command fails, and the error names the plugin.
    """


@hookspec
def register_routes(services: Services) -> Iterable[Blueprint]:
    """Supply Flask blueprints for paths that are not requests to a model: pages, callbacks, reports.

    When: once, while the application is built. For requests to a model, use ``register_dialects``.
    May change: nothing.
    Returns: the blueprints. Floway does not start if one serves a path that core or another plugin serves. Only the
    page at ``/`` may be replaced.
    If it raises: Floway does not start, and the error names the plugin.
    """


@hookspec
def register_metrics(registry: CollectorRegistry, providers: Mapping[str, Provider]) -> None:
    """Add the plugin's metrics to ``/metrics``, with the library ``prometheus_client``.

    When: once per process, while the application is built, unless ``/metrics`` is switched off. ``providers`` are the
    providers of all plugins, by kind. Create a ``Counter``, ``Histogram`` or ``Gauge`` with ``registry=registry`` for
    what the process counts. Floway adds it up over all workers; a gauge needs a ``multiprocess_mode`` for that. For
    values from the database, pass a collector to ``registry.register``, which reads them on each scrape. Clients must
    not be able to choose the value of a label.
    May change: ``registry``, by adding to it. Names of metrics start with ``floway_`` and the plugin's name.
    Returns: nothing.
    If it raises: Floway does not start, and the error names the plugin. If a collector raises, Floway logs it and
    answers without its metrics.
    """


# ------------------------------------------------------------------------------------------------------- lifecycle
@hookspec
def on_start(services: Services) -> None:
    """Prepare to serve: store ``services``, open connections and files, start threads.

    When: once in each worker process, after the hooks ``register_...`` of all plugins, before the first request. Not
    called for commands.
    May change: nothing.
    Returns: nothing.
    If it raises: the worker does not start, and the error names the plugin. Floway tries again every second.
    """


@hookspec
def on_attempt_start(ctx: AttemptContext) -> None:
    """Decide everything that must be the same for all dispatches of this attempt.

    When: once per attempt, after the gateway has chosen a candidate and before it sends anything.
    May change: ``ctx.provider_state``, if the plugin owns the upstream; ``ctx.trace_headers``, also if it is an
    observer.
    Returns: nothing.
    If it raises: the attempt ends and nothing is sent. The client receives the owner's ``GatewayError`` unchanged;
    any other exception becomes a 500. An observer's exception is logged, and the attempt goes on.
    """


@hookspec
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    """Convert the client's request to the one that the upstream receives.

    When: before every dispatch of an attempt, each time with a fresh copy of body and headers. Must be idempotent: a
    second dispatch of an attempt sends the same identity. ``ctx.body["input"]`` lacks the first ``ctx.held_items``
    items, which is 0 unless the provider says so (``Provider.count_held_items``).
    May change: ``ctx.body`` and ``ctx.headers``, if the plugin owns the upstream. If it removes a field that the
    upstream does not support, it calls ``ctx.ignore("temperature")``, which lists the field in a response header.
    Returns: nothing.
    If it raises: as in ``on_attempt_start``: the owner's exception ends the attempt and nothing more is sent; an
    observer's exception is logged.
    """


@hookspec
def on_snapshot_commit(ctx: SnapshotCommitContext) -> None:
    """Store metadata with the conversation. ``AttemptContext.previous`` has it when the conversation continues.

    When: once per stored response, before the client sees that the response is complete. The owner is called inside the
    transaction that stores the response. Observers are called before it begins, so that a slow one delays only
    its own request; their own writes to the database are not part of it. Not called for responses that fail, and
    for those that the client does not want stored.
    May change: ``ctx.metadata``, the plugin's own, inherited from the previous snapshot. If the commit fails, the
    changes are lost.
    Returns: nothing.
    If it raises: the owner's exception rolls the commit back, and the client sees that the turn failed. An observer's
    exception is logged, and its metadata stays as inherited.
    """


@hookspec
def on_attempt_end(ctx: EndedAttempt, result: AttemptResult) -> None:
    """Record the result of an attempt: its outcome, duration, tokens and cost.

    When: after the request has ended, in a separate thread of the plugin, outside of any transaction. No request waits
    for it. During a slow call, the results of up to ``floway_core.runtime.observers.MAX_PENDING`` requests are queued,
    with the items of their responses. Further ones are dropped, which is logged. A server that stops waits a moment for
    the queued results.
    May change: nothing.
    Returns: nothing.
    If it raises: the exception is logged.
    """


@hookspec
def on_request_end(result: RequestResult) -> None:
    """Record the result of a request: its outcome, duration, tokens and cost.

    When: as ``on_attempt_end``, after the hooks of its attempts. Called for every request and every plugin, also for
    requests that are refused and for those that need no upstream.
    May change: nothing.
    Returns: nothing.
    If it raises: the exception is logged.
    """


@hookspec
def on_stop(timeout: float) -> None:
    """Deliver buffered data before the process ends.

    When: once in each worker process that stops gracefully, after the last result, in the separate thread of the
    plugin. After ``timeout`` seconds the process ends, whether the hook has returned or not.
    May change: nothing.
    Returns: nothing.
    If it raises: the exception is logged.
    """
