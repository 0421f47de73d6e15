"""The findings of ``floway doctor``, for an installation and for a gateway that runs."""

from collections.abc import Callable, Iterator, Mapping

import pluggy

from floway_core.administration import check_host, check_store, check_upstreams
from floway_core.administration.check_result import FAIL, OK, WARN, CheckResult
from floway_core.contexts import Services
from floway_core.errors import StartupError
from floway_core.runtime.gateway import Gateway, make_gateway
from floway_core.settings import SettingsError
from floway_core.storage.db import close_connections

__all__ = ["FAIL", "OK", "WARN", "CheckResult", "check_installation", "check_running"]


def check_installation(
    environ: Mapping[str, str], build_app: Callable[[Gateway, pluggy.PluginManager], object]
) -> Iterator[CheckResult]:
    """Yield each result as soon as it is available. A check that depends on a failed one is skipped.

    :param environ: the environment, with the settings.
    :param build_app: builds the application, and raises ``StartupError`` if the routes of plugins collide.
    """
    manager, results = check_host.load_plugins()
    yield from results
    settings, results = check_host.load_settings_one_by_one(manager, environ)
    yield from results
    if settings is None:
        return
    yield from check_host.files(settings, environ)
    yield from check_host.limits(settings)
    database, results = check_store.open_database(settings, manager)
    yield from results
    if database is None:
        return
    box, results = check_store.secret_key(settings, manager, database, environ)
    yield from results
    yield from check_store.api_keys(database)
    if box is not None:
        try:
            gateway = make_gateway(Services(settings, database, box), manager)
            build_app(gateway, manager)
        except SettingsError as error:
            yield CheckResult("settings", FAIL, str(error), "Correct it; Floway does not start.")
        except StartupError as error:
            yield CheckResult("plugins", FAIL, str(error), "Uninstall one of them; Floway does not start.")
        else:
            yield from check_upstreams.check(gateway)
    close_connections(database)


def check_running(gateway: Gateway, environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Yield the same results for a gateway that runs.

    :param environ: the environment of its process.
    """
    settings, manager = gateway.settings, gateway.manager
    yield from check_host.load_plugins()[1]
    yield from check_host.load_settings_one_by_one(manager, environ)[1]
    yield from check_host.files(settings, environ)
    yield from check_host.limits(settings)
    database, results = check_store.open_database(settings, manager)
    yield from results
    if database is not None:
        try:
            yield from check_store.secret_key(settings, manager, database, environ)[1]
        finally:
            close_connections(database)
    yield from check_store.api_keys(gateway.services.database)
    yield from check_upstreams.check(gateway)
