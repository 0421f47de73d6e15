"""Every statement of the plugin on PostgreSQL."""

import pytest
from floway_dashboard import figures
from floway_dashboard.access import attempts, passwords, sessions
from floway_dashboard.recording import first_bytes, recorder, requests

from floway_core.runtime.gateway import open_services, read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.storage.db import close_connections

from .test_recording import attempt, end_attempt, result


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    pgserver = pytest.importorskip("pgserver", reason="there is no pgserver")
    folder = tmp_path_factory.mktemp("postgresql")
    server = pgserver.get_server(folder)
    manager = build_plugin_manager(only=["dashboard"])
    environ = {"FLOWAY_DATA_DIR": str(folder / "data"), "FLOWAY_DATABASE_URL": server.get_uri()}
    services = open_services(read_settings(manager, environ), manager)
    yield services
    close_connections(services.database)
    server.cleanup()


def test_passwords_and_sessions(services):
    database = services.database
    for password in ("an old password", "a new password"):
        passwords.put(database, passwords.OPERATOR, password)
    assert passwords.find_role(database, "a new password") == "operator"
    assert passwords.find_role(database, "an old password") is None
    cookie, _ = sessions.begin(services, "operator", "192.0.2.1", None)
    session = sessions.find(services, cookie)
    assert session and session.id in [running.id for running in sessions.list_running(database)]
    sessions.leave_notice(database, session.id, "Done.")
    assert [sessions.take_notice(database, session.id) for _ in range(2)] == ["Done.", None]
    assert sessions.end(database, session.id) and sessions.find(services, cookie) is None
    assert passwords.remove(database, passwords.OPERATOR) and passwords.list_roles(database) == set()


def test_attempts_to_sign_in(services):
    waits = [attempts.count_attempt(services.database, "192.0.2.2") for _ in range(6)]
    assert waits[:5] == [0] * 5 and waits[5] > 0
    attempts.clear_attempts(services.database, "192.0.2.2")
    assert attempts.count_attempt(services.database, "192.0.2.2") == 0
    assert attempts.count_attempt(services.database, "2001:db8::1") == 0


def test_requests_and_times(services):
    worker = recorder.Recorder(services)
    worker.begin(attempt("running", "x\0\ud800"))
    worker.flush()
    for number in range(requests.MAX_ENDED + 10):
        worker.end(result(f"{number:04}", started_at=1000.0 + number))
    end_attempt(worker, 0.5)
    worker._pruned_at = float("-inf")
    worker.flush()
    rows = requests.read(services.database, 1000)
    assert rows[0].is_running and rows[1].id == f"{requests.MAX_ENDED + 9:04}"
    assert first_bytes.read(services.database, "key", ["ada"], figures.today())["ada"].median == pytest.approx(
        0.5, rel=0.1
    )
    assert len(figures.sum_days(services.database)) == figures.CHART_DAYS
