"""Signing in and out, roles, tokens of forms, and the limit of attempts."""

import re
import sqlite3
import threading
import time

import pytest
from click.testing import CliRunner
from floway_dashboard.commands import dashboard

from floway_core.cli import Session
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.testing import RunningGateway

from .visitor import ADMIN_TOKEN, PASSWORD, VIEWER_PASSWORD, Visitor


def invoke(gateway, *arguments, typed=""):
    """Run ``floway dashboard password`` in this process."""
    environ = {"FLOWAY_DATA_DIR": str(gateway.data_dir)}
    session = Session(build_plugin_manager(only=["dashboard"]))
    return CliRunner(env=environ).invoke(dashboard, ["password", *arguments], input=typed, obj=session)


def session_cookie(visitor):
    return next((cookie for cookie in visitor.cookies if cookie.name == "floway_dashboard"), None)


@pytest.mark.parametrize("path", ["", "/access", "/nothing", "/access?page=2"])
def test_nothing_is_shown_before_signing_in(stranger, path):
    answer = stranger.get(f"/dashboard{path}")
    assert (answer.status, answer.path, answer.title) == (200, "/dashboard/sign-in", "Sign in")
    assert "127.0.0.1</code>" not in answer.text and "<nav" not in answer.text


def test_signing_in_leads_to_the_page_that_was_wanted(stranger):
    page = stranger.get("/dashboard/access?page=1")
    answer = stranger.submit(page, "/sign-in", {"password": PASSWORD})
    assert answer.url.endswith("/dashboard/access?page=1") and answer.title == "Access"


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example/dashboard/", "/dashboard\\@evil.example"]
)
def test_signing_in_leads_to_no_other_site(stranger, elsewhere):
    page = stranger.get("/dashboard/sign-in")
    answer = stranger.submit(page, "/sign-in", {"password": PASSWORD, "next": elsewhere})
    assert answer.url.startswith(stranger.url + "/dashboard")


@pytest.mark.parametrize("secret, may_change", [(PASSWORD, True), (ADMIN_TOKEN, True), (VIEWER_PASSWORD, False)])
def test_who_signs_in_has_a_role(stranger, secret, may_change):
    stranger.sign_in(secret)
    page = stranger.get("/dashboard/access")
    assert page.title == "Access"
    assert ("Set password" in page.text) == may_change


def test_a_wrong_password_opens_nothing(stranger):
    answer = stranger.sign_in("wrong")
    assert answer.status == 403 and answer.notice.startswith("That is neither")
    assert session_cookie(stranger) is None
    assert stranger.get("/dashboard/access").title == "Sign in"


def test_the_cookie_is_for_this_site_alone_and_no_script(stranger):
    headers = []
    for scheme in ("http", "https"):
        visitor = Visitor(stranger.url, X_Forwarded_Proto=scheme)
        visitor.sign_in()
        cookie = session_cookie(visitor)
        headers.append((cookie.path, cookie.secure, cookie.has_nonstandard_attr("HttpOnly")))
        assert cookie.get_nonstandard_attr("SameSite") == "Strict"
        assert 12 * 3600 - 60 < cookie.expires - time.time() <= 12 * 3600
    assert headers == [("/dashboard", False, True), ("/dashboard", True, True)]


def test_neither_the_database_nor_the_log_holds_a_password_or_a_session(gateway, operator):
    content = gateway.database.read_bytes() + gateway.log.encode()
    for suffix in ("-wal", "-shm"):
        file = gateway.database.with_name(gateway.database.name + suffix)
        content += file.read_bytes() if file.exists() else b""
    for secret in (PASSWORD, VIEWER_PASSWORD, ADMIN_TOKEN, session_cookie(operator).value):
        assert secret.encode() not in content


def test_a_changed_cookie_opens_nothing(operator):
    cookie = session_cookie(operator)
    cookie.value = cookie.value[:-6] + ("A" if cookie.value[-6] != "A" else "B") + cookie.value[-5:]
    operator.cookies.set_cookie(cookie)
    assert operator.get("/dashboard/access").title == "Sign in"


def test_what_other_parts_of_the_gateway_have_encrypted_is_no_session(gateway, operator, database):
    page = Visitor(gateway.url).get("/dashboard/sign-in")
    cookie = session_cookie(operator)
    cookie.value = page.form("/sign-in")[1]["form_token"]
    operator.cookies.set_cookie(cookie)
    assert operator.get("/dashboard/access").title == "Sign in"


def test_a_sign_out_ends_the_session_on_all_workers(operator):
    cookie = session_cookie(operator)
    assert operator.submit(operator.get("/dashboard/access"), "/sign-out").title == "Sign in"
    assert session_cookie(operator) is None
    operator.cookies.set_cookie(cookie)
    assert {operator.get("/dashboard/access").title for _ in range(10)} == {"Sign in"}


def test_a_session_ends_with_time(operator, database):
    with database.connection_context():
        database.execute_sql("UPDATE dashboard_sessions SET expires_at = created_at")
    assert operator.get("/dashboard/access").title == "Sign in"


def test_another_password_ends_the_sessions_of_its_role(gateway, viewer):
    invoke(gateway, "--viewer", typed=f"{VIEWER_PASSWORD}\n")
    assert viewer.get("/dashboard/access").title == "Sign in"


def test_the_command_removes_passwords_and_refuses_short_ones(gateway):
    assert invoke(gateway, "--viewer", "--remove").output == "The viewer password is removed.\n"
    assert invoke(gateway, "--viewer", "--remove").output == "There is no viewer password.\n"
    refused = invoke(gateway, "--viewer", typed="too short\n")
    assert refused.exit_code == 1 and "12 to 1000 characters" in refused.output
    assert invoke(gateway, "--viewer", typed=f"{VIEWER_PASSWORD}\n").output == "The viewer password is set.\n"


def test_another_admin_token_ends_the_sessions_that_began_with_it(gateway, stranger):
    stranger.sign_in(ADMIN_TOKEN)
    assert stranger.get("/dashboard/access").title == "Access"
    row = "SELECT token_proof FROM dashboard_sessions WHERE token_proof IS NOT NULL"
    with sqlite3.connect(gateway.database) as connection:
        ((proof,),) = connection.execute(row).fetchall()
        connection.execute("UPDATE dashboard_sessions SET token_proof = ?", [proof[::-1]])
    connection.close()
    assert stranger.get("/dashboard/access").title == "Sign in"


@pytest.mark.parametrize("token", ["", "0" * 64, "ä"])
def test_a_form_without_the_token_of_the_session_is_refused(operator, token):
    new = {"form_token": token, "role": "viewer", "password": "x" * 12, "repeated": "x" * 12}
    answer = operator.post("/dashboard/access/password", new)
    assert answer.status == 403 and "out of date" in answer.notice


def test_the_token_of_another_session_is_refused(gateway, operator):
    other = Visitor(gateway.url)
    other.sign_in()
    token = other.get("/dashboard/access").form("/sign-out")[1]["form_token"]
    assert operator.post("/dashboard/sign-out", {"form_token": token}).status == 403


def test_what_another_site_sends_is_refused(operator):
    page = operator.get("/dashboard/access")
    assert operator.submit(page, "/sign-out", Sec_Fetch_Site="cross-site").status == 403
    assert operator.get("/dashboard/access").title == "Access"


def test_a_sign_in_that_another_site_sends_is_refused(stranger):
    answer = stranger.post("/dashboard/sign-in", {"password": PASSWORD})
    assert answer.status == 403 and "out of date" in answer.notice


def test_a_viewer_changes_nothing(viewer, gateway):
    token = viewer.get("/dashboard/access").form("/sign-out")[1]["form_token"]
    routes = [line for line in gateway.run("plugins").stdout.split(",") if "POST /dashboard" in line]
    paths = [re.search(r"POST (/dashboard\S*)", route)[1] for route in routes]
    changes = [path for path in paths if not path.endswith(("/sign-in", "/sign-out"))]
    assert len(changes) >= 2
    for path in changes:
        answer = viewer.post(re.sub(r"<[^>]*>", "x", path), {"form_token": token, "confirmed": "yes"})
        assert (answer.status, answer.notice) == (403, "Viewers may look at everything, and change nothing."), path


def session_paths(page):
    """The paths that end one of the sessions on the page."""
    return set(re.findall(r'action="(/dashboard/access/sessions/\w+/end)"', page.text))


def test_a_session_is_ended_after_a_question(gateway, operator):
    before = session_paths(operator.get("/dashboard/access"))
    other = Visitor(gateway.url)
    other.sign_in(VIEWER_PASSWORD)
    page = operator.get("/dashboard/access")
    (path,) = session_paths(page) - before
    question = operator.submit(page, path)
    assert question.title == "End the viewer session from 127.0.0.1?"
    assert other.get("/dashboard/access").title == "Access"
    answer = operator.submit(question, path)
    assert (answer.title, answer.notice) == ("Access", "The session has ended.")
    assert operator.get("/dashboard/access").notice is None
    assert other.get("/dashboard/access").title == "Sign in"
    assert operator.submit(question, path).status == 404


@pytest.mark.parametrize(
    "password, repeated, problem",
    [("short", "short", "A password has 12 to 1000 characters."), ("x" * 12, "y" * 12, "The passwords differ.")],
)
def test_a_password_that_cannot_be_set_is_explained(operator, password, repeated, problem):
    page = operator.get("/dashboard/access")
    answer = operator.submit(page, "/password", {"role": "viewer", "password": password, "repeated": repeated})
    assert answer.status == 400 and problem in answer.text
    assert password not in answer.text.replace("x" * 1000, "")


def test_guessing_is_slowed_over_all_workers(stranger):
    page = stranger.get("/dashboard/sign-in")
    answers = [stranger.submit(page, "/sign-in", {"password": f"wrong {n}"}) for n in range(7)]
    assert [answer.status for answer in answers] == [403, 403, 403, 403, 403, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    answer = stranger.submit(stranger.get("/dashboard/sign-in"), "/sign-in", {"password": PASSWORD})
    assert answer.status == 429  # also the right one: otherwise guessing would go on
    friend = Visitor(stranger.url, X_Forwarded_For="192.0.2.7, 198.51.100.9")
    assert friend.sign_in().status == 200


def test_attempts_at_the_same_time_count_one_by_one(stranger):
    page = stranger.get("/dashboard/sign-in")
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(stranger.submit(page, "/sign-in", {"password": "x"}).status))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(403) <= 5 and set(statuses) == {403, 429}


def test_all_addresses_together_are_limited(stranger, database):
    with database.connection_context():
        later = time.time_ns() // 1_000_000 + 3_600_000
        database.execute_sql("INSERT INTO dashboard_attempts (source, free_at) VALUES ('*', ?)", [later])
    assert Visitor(stranger.url, X_Forwarded_For="192.0.2.77").sign_in().status == 429


def test_pages_may_load_nothing_from_elsewhere_and_are_not_kept(operator):
    for path in ("/dashboard/access", "/dashboard/nothing"):
        answer = operator.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\sstyle=|<script(?! src)|\son\w+=|(?:src|href)=\"(?!/dashboard|#)", answer.text)
    assert answer.status == 404 and answer.title == "Not found"


def test_static_files_are_kept_until_they_change(stranger):
    page = stranger.get("/dashboard/sign-in")
    for path in re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', page.text):
        assert "immutable" in stranger.get(path).headers["cache-control"]
        assert stranger.get(path.partition("?")[0]).headers["cache-control"] == "no-cache"


def test_nobody_can_sign_in_before_it_is_set_up():
    with RunningGateway(installed=["dashboard"]) as fresh:
        page = Visitor(fresh.url).get("/dashboard")
        assert "floway dashboard password" in page.text and "<form" not in page.text
        assert fresh.run("dashboard", "password", typed=f"{PASSWORD}\n").returncode == 0
        assert Visitor(fresh.url).sign_in().title == "Overview"
