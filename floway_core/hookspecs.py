"""Every hook of Floway: the extension API on one page.

A plugin is a pip package with an entry point in the group ``floway`` that names a module (or object) whose functions
carry the marker below. They may leave out arguments that they have no use for::

    from floway_core.hookspecs import hookimpl

    @hookimpl
    def register_providers(services):
        return [MyProvider(services)]

A plugin that registers a provider owns the upstreams of that kind: its lifecycle hooks are called for attempts on those
and on no others. A plugin without a provider is an observer: its lifecycle hooks are called for every attempt, after
the owner's, with the same contexts, which it should only read.
"""

from collections.abc import Iterable, Mapping

import click
import pluggy
from prometheus_client import CollectorRegistry

from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, SnapshotCommitContext
from floway_core.provider import Provider
from floway_core.settings import Setting
from floway_core.storage.migrate import MigrationSource

hookspec = pluggy.HookspecMarker("floway")
hookimpl = pluggy.HookimplMarker("floway")


# ---------------------------------------------------------------------------------------------------- registration
@hookspec
def register_settings() -> Iterable[Setting]:
    """Declare settings of the plugin.

    When: first of all, before the configuration is read. A setting ``mine_url`` is read from the environment variable
    ``FLOWAY_MINE_URL`` or the TOML key ``mine_url``, and found in ``services.settings.plugin["mine_url"]``.
    May change: nothing.
    Returns: the settings; their names start with the provider kind or the plugin's name.
    If it raises: Floway does not start and says which plugin is at fault.
    """


@hookspec
def register_migrations() -> MigrationSource:
    """Name the plugin's own schema migrations.

    When: before the database is used. Core's migrations have run already, so tables may refer to core's.
    May change: nothing; the migrations make the plugin's own tables, and leave those of others alone.
    Returns: a name, a folder of numbered migrations, and the columns that hold what ``services.secrets`` has sealed;
    each source has its own history.
    If it raises: Floway does not start and says which plugin is at fault.
    """


@hookspec
def register_providers(services: Services) -> Iterable[Provider]:
    """Supply providers, one object for each kind.

    When: once per process, after the migrations. No network, and no query whose answer may change: the objects serve
    all threads until the process ends.
    May change: nothing.
    Returns: the providers. Two plugins that claim one kind keep Floway from starting.
    If it raises: Floway does not start and says which plugin is at fault.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to ``floway``, as a rule one group named like the provider kind.

    When: each time the command line starts. Commands reach the database through
    ``floway_core.cli.services(context)``, which opens it on first use. One that only looks is a
    ``floway_core.cli.ReadOnlyCommand``: it sees an empty installation where there is none yet, and makes nothing.
    May change: ``cli``, by adding to it.
    Returns: nothing.
    If it raises: ``floway`` does not start and says which plugin is at fault.
    """


@hookspec
def register_routes() -> Iterable:
    """Supply Flask blueprints for paths that clients of this provider expect beside ``/v1``.

    When: once, while the application is built. A view may hand its request to one of the public views of
    ``floway_core.web``, once.
    May change: nothing.
    Returns: the blueprints.
    If it raises: Floway does not start and says which plugin is at fault.
    """


@hookspec
def register_metrics(registry: CollectorRegistry, providers: Mapping[str, Provider]) -> None:
    """Add metrics of the plugin's own to what ``/metrics`` tells, with the library ``prometheus_client``.

    When: once per process, while the application is built, unless ``/metrics`` is switched off. ``providers`` are all
    of them, by kind. What the process counts goes into a ``Counter``, a ``Histogram`` or a ``Gauge`` that is made with
    ``registry=registry``: it is added up over all workers, and a gauge needs a ``multiprocess_mode`` for that. What the
    database knows is better read when it is asked for, by a collector given to ``registry.register``. Labels must not
    hold what clients choose.
    May change: ``registry``, by adding to it; names of metrics start with ``floway_`` and the plugin's name.
    Returns: nothing.
    If it raises: Floway does not start and says which plugin is at fault. A collector that raises is left out of the
    answer, and that is logged.
    """


# ------------------------------------------------------------------------------------------------------- lifecycle
@hookspec
def on_attempt_start(ctx: AttemptContext) -> None:
    """Settle what must stay the same over all dispatches of this attempt.

    When: once per attempt, after a candidate was chosen and before anything is sent.
    May change: ``ctx.provider_state``, if the plugin owns the upstream.
    Returns: nothing.
    If it raises: a ``GatewayError`` of the owner reaches the client as it is, any other exception becomes a 500; the
    attempt ends and nothing is sent. An observer's exception is logged and the attempt goes on.
    """


@hookspec
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    """Turn the client's request into the one the upstream is to receive.

    When: before every dispatch of an attempt, each time with a fresh copy of body and headers. Must be idempotent: a
    second dispatch of an attempt carries the same identity.
    May change: ``ctx.body`` and ``ctx.headers``, if the plugin owns the upstream. Fields that it leaves out because the
    upstream cannot honour them are named with ``ctx.ignore("temperature")``: the client gets the list in a header.
    Returns: nothing.
    If it raises: as in ``on_attempt_start``: the owner's exception ends the attempt and nothing more is sent, an
    observer's is logged.
    """


@hookspec
def on_snapshot_commit(ctx: SnapshotCommitContext) -> None:
    """Keep something with the conversation, to be found in ``AttemptContext.previous`` when it is continued.

    When: once per response that is stored, inside the transaction, before the client sees that it is complete. Not
    called for responses that fail or that the client does not want stored.
    May change: ``ctx.metadata``, the plugin's own, inherited from the previous snapshot. It belongs to this commit
    alone: when the commit fails, nothing of it stays.
    Returns: nothing.
    If it raises: the owner's exception rolls the commit back and the turn fails where the client sees it. An observer's
    exception is logged, and its metadata stays as it was inherited.
    """
