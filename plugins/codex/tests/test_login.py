"""Signing in and out on the command line, with the simulated sign-in page and an HTTP client as the browser."""

import contextlib
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import tty
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from floway_codex.account import login_callback
from floway_codex.account.browser import DISPLAYS, REMOTE
from floway_codex.simulator import Simulator

from floway_core.testing import Installation

from . import gateways

pytestmark = pytest.mark.soak  # long: many processes, or waits

PATIENCE = 60
CALLBACK = "http://localhost:1455/auth/callback"


@pytest.fixture
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture
def installation(simulator):
    with Installation(gateways.settings(simulator), installed=["codex"]) as made:
        yield made


@pytest.fixture
def browser():
    """A browser that follows redirects, past the proxies of this machine."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Login:
    """``floway codex login``, while it runs."""

    def __init__(self, installation, *arguments):
        self.arguments = [sys.executable, "-m", "floway_core", "codex", "login", *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(self.arguments, env=installation.environ, text=True, **pipes)
        self.shown = ""
        while not (found := re.search(r"^(http\S+/oauth/authorize\S*)\n", self.shown, re.MULTILINE)):
            line = self.process.stdout.readline()
            assert line, self.shown
            self.shown += line
        self.url = found[1]

    def end(self, typed=None):
        """(exit status, everything shown)"""
        rest, _ = self.process.communicate(typed, PATIENCE)
        self.shown += rest
        return self.process.returncode, self.shown


@pytest.fixture
def start_login(installation):
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            started = Login(installation, *arguments)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            return started

        yield start


def last_line(shown):
    return shown.rstrip("\n").rpartition("\n")[2].removeprefix("URL: ")


# -------------------------------------------------------------------------------------------------- through a browser
def test_a_browser_signs_in_and_the_account_can_be_used(simulator, browser, port):
    with gateways.start(simulator) as gateway:
        login = Login(gateway, "--port", port, "--name", "work")
        page = browser.get(login.url)
        assert page.status_code == 200 and "You can close this page" in page.text
        assert page.headers["cache-control"] == "no-store" and len(page.text) < 400
        status, shown = login.end()
        assert status == 0 and last_line(shown).startswith("work: user@example.com, plan pro, account ")
        assert gateways.answer_of(gateways.ask(gateway)) == (200, "You said: Hi")
        assert simulator.refreshes == 0
        with pytest.raises(requests.ConnectionError):  # nobody listens any more
            browser.get(page.url)


BROWSER = """#!{python}
import pathlib, sys, requests
pathlib.Path({marker!r}).touch()
with requests.Session() as session:
    session.trust_env = False
    session.get(sys.argv[1])
"""


@pytest.fixture
def desktop(installation, tmp_path):
    """Signs in at a terminal, with a browser that needs nobody: (exit status, shown, whether that was opened)."""
    marker, program = tmp_path / "opened", tmp_path / "browser"
    program.write_text(BROWSER.format(python=sys.executable, marker=str(marker)))
    program.chmod(0o700)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "xdg-open").symlink_to(program)
    path = str(tmp_path / "bin")  # alone: this machine may have a browser that is preferred
    unset = dict.fromkeys((*REMOTE, *DISPLAYS, "BROWSER"), "")

    def sign_in(*options, finish=None, environ=None):
        here, there = pty.openpty()
        tty.setraw(there)
        places = {"BROWSER": str(program)} if environ is None else environ
        environ = {name: value for name, value in {**unset, **places, "PATH": path}.items() if value}
        given = {name: value for name, value in installation.environ.items() if name not in unset} | environ
        command = [sys.executable, "-m", "floway_core", "codex", "login", *options]
        with subprocess.Popen(command, env=given, stdin=subprocess.DEVNULL, stdout=there, stderr=there) as process:
            watchdog = threading.Timer(PATIENCE, process.kill)
            watchdog.start()
            os.close(there)
            shown = ""
            with open(here, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # at its end
                while piece := terminal.read(4096):
                    shown += piece.decode()
                    if finish and (url := re.search(r"^(http\S+/oauth/authorize\S*)\n", shown, re.MULTILINE)):
                        finish.get(url[1])
                        finish = None
            watchdog.cancel()
        return process.returncode, shown, marker.exists()

    return sign_in


@pytest.mark.parametrize(
    "environ",
    [
        None,
        {"DISPLAY": ":0"},
        {"WAYLAND_DISPLAY": "wayland-0"},
    ],
    ids=["BROWSER", "X11", "Wayland"],
)
def test_the_browser_of_a_desktop_is_opened(desktop, port, environ):
    if environ and not sys.platform.startswith("linux"):
        pytest.skip("xdg-open is Linux's")
    status, shown, opened = desktop("--port", port, environ=environ)
    assert (status, opened) == (0, True) and "The browser opens this page" in shown
    assert last_line(shown).startswith("codex-user@example.com: user@example.com, plan pro, account ")


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (("--no-browser",), None),
        ((), {"DISPLAY": ":0", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}),
        ((), {}),
    ],
    ids=["not wanted", "from another machine", "no desktop"],
)
def test_no_browser_is_opened_where_nobody_would_see_it(desktop, browser, port, options, environ):
    status, shown, opened = desktop("--port", port, *options, finish=browser, environ=environ)
    assert (status, opened) == (0, False), shown
    assert shown.startswith("Open this page in a browser of this machine")


def test_no_browser_is_opened_for_a_script(installation, browser, port, tmp_path):
    installation.environ["BROWSER"] = f"touch {tmp_path}/opened"
    login = Login(installation, "--port", port)
    assert browser.get(login.url).status_code == 200 and login.end()[0] == 0
    assert not (tmp_path / "opened").exists()


def test_the_url_is_the_one_that_the_cli_would_open(start_login, simulator, port):
    login = start_login("--port", port)
    address, _, query = login.url.partition("?")
    assert address == f"{simulator.url}/oauth/authorize"
    parameters = parse_qs(query, strict_parsing=True)
    challenge, state = parameters.pop("code_challenge")[0], parameters.pop("state")[0]
    assert {name: value for name, [value] in parameters.items()} == {
        "response_type": "code",
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "redirect_uri": f"http://localhost:{port}/auth/callback",
        "scope": "openid profile email offline_access",
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "originator": "codex_cli_rs",
    }
    assert len(challenge) == 43 and len(state) == 43 and "+" not in query


def test_only_a_callback_with_the_state_counts(start_login, browser, port):
    login = start_login("--port", port)
    here = f"http://127.0.0.1:{port}"
    for path in ("/", "/favicon.ico", "/auth/callback/more?state=x&code=y"):
        assert browser.get(here + path).status_code == 404
    for query in ("", "?code=stolen", "?code=stolen&state=", "?code=stolen&state=wrong"):
        page = browser.get(f"{here}/auth/callback{query}")
        assert page.status_code == 400 and "stolen" not in page.text
    assert browser.post(f"{here}/auth/callback").status_code == 501
    assert browser.get(login.url).status_code == 200
    assert login.end()[0] == 0


def test_a_refusal_at_the_sign_in_page_is_told(start_login, simulator, browser, port):
    simulator.deny_sign_ins()
    login = start_login("--port", port)
    assert browser.get(login.url).status_code == 200
    status, shown = login.end()
    assert (status, last_line(shown)) == (1, "Error: The sign-in failed: access_denied: The user denied the request.")


def test_waiting_for_the_browser_ends(installation, port):
    done = installation.run("codex", "login", "--port", port, "--timeout", "0.1")
    assert (done.returncode, done.stderr) == (1, "Error: The browser did not come back in time.\n")


def test_a_port_that_is_taken_is_told(installation):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = installation.run("codex", "login", "--port", port)
    assert done.returncode == 1 and f"Port {port}" in done.stderr and "--paste" in done.stderr
    assert "authorize" not in done.stdout


def test_the_callback_listens_on_loopback_and_is_served_once():
    with login_callback.CallbackServer(0, "/auth/callback") as server, requests.Session() as browser:
        browser.trust_env = False
        assert server.server_address[0] == "127.0.0.1"
        url = f"http://127.0.0.1:{server.port}/auth/callback?code=1"
        idle = socket.create_connection(server.server_address)  # as browsers open them in advance
        # The server begins with wait(); until then the connections stand in line.
        answers = []

        def come() -> None:
            with contextlib.suppress(requests.ConnectionError):  # the server has ended
                answers.append(browser.get(url).status_code)

        threads = [threading.Thread(target=come) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert server.wait(lambda seen: True, PATIENCE) == "/auth/callback?code=1"
        idle.close()
        server.server_close()
        for thread in threads:
            thread.join(PATIENCE)
    assert answers.count(200) == 1


# ------------------------------------------------------------------------------------------------------------ pasting
def come_back(browser, url):
    """Where the browser ends that finds nobody on its machine."""
    answer = browser.get(url, allow_redirects=False)
    assert answer.status_code == 302
    return answer.headers["location"]


def test_the_url_can_be_pasted(start_login, browser, installation):
    login = start_login("--paste")
    url = come_back(browser, login.url)
    assert url.startswith(CALLBACK)
    status, shown = login.end(url + "\n")
    assert status == 0 and "codex-user@example.com: user@example.com, plan pro" in last_line(shown)
    [account] = gateways.status(installation)
    assert account["state"] == "active" and account["token_expires_at"]


@pytest.mark.parametrize(
    "pasted, message",
    [
        ("{callback}?code=a&state=b", "its state is missing or another one"),
        ("ac_only_the_code", "its state is missing or another one"),
        ("http://[bad", "its state is missing or another one"),
        ("{url}&error=server_error", "The sign-in failed: server_error"),
        ("{callback}?state={state}", "The sign-in failed: no code came back"),
        ("{callback}?state={state}&code=ac_of_another_sign_in", "The sign-in failed: invalid_grant"),
    ],
)
def test_what_is_not_the_url_of_this_sign_in_is_refused(start_login, browser, installation, pasted, message):
    login = start_login("--paste")
    state = parse_qs(urlsplit(login.url).query)["state"][0]
    url = come_back(browser, login.url)
    status, shown = login.end(pasted.format(url=url, state=state, callback=CALLBACK) + "\n")
    assert status == 1 and message in last_line(shown), shown
    assert gateways.status(installation) == []


def test_a_code_is_of_no_use_without_the_verifier_it_was_made_for(start_login, browser, simulator):
    """Another sign-in's code comes with this one's state: what remains is PKCE."""
    one, two = start_login("--paste"), start_login("--paste")
    code = parse_qs(urlsplit(come_back(browser, two.url)).query)["code"][0]
    state = parse_qs(urlsplit(one.url).query)["state"][0]
    status, shown = one.end(f"{CALLBACK}?code={code}&state={state}\n")
    assert status == 1 and "invalid_grant" in last_line(shown)
    assert "verifier does not fit" in shown


# --------------------------------------------------------------------------------------------------- again, and out
def sign_in(start_login, browser, *arguments):
    login = start_login("--paste", *arguments)
    return login.end(come_back(browser, login.url) + "\n")


def test_signing_in_again_keeps_upstream_and_installation(start_login, browser, simulator, installation):
    account = simulator.new_account(email="ann@example.com")
    simulator.sign_in_browser(account["tokens"]["account_id"])
    gateways.import_account(installation, account, "--name", "work")
    [before] = gateways.status(installation)
    status, shown = sign_in(start_login, browser)
    assert status == 0 and last_line(shown).startswith("work: ann@example.com")
    [after] = gateways.status(installation)
    assert after["installation_id"] == before["installation_id"] and after["upstream"] == "work"
    status, shown = sign_in(start_login, browser, "--name", "other")
    assert status == 1 and "already the upstream 'work'" in shown


def test_signing_out_ends_requests_until_somebody_signs_in(simulator, browser):
    account = simulator.new_account()
    simulator.sign_in_browser(account["tokens"]["account_id"])
    with gateways.start(simulator, workers="2") as gateway:
        gateways.import_account(gateway, account, "--name", "work")
        [before] = gateways.status(gateway)
        assert gateways.ask(gateway).status == 200
        done = gateway.run("codex", "logout", "work")
        assert (done.returncode, done.stdout) == (0, "work: signed out\n")
        status, message = gateways.answer_of(gateways.ask(gateway))
        assert status == 503 and "signed_out" in message and "floway codex login" in message
        [shown] = gateways.status(gateway)
        assert (shown["state"], shown["token_expires_at"]) == ("signed_out", None)
        stored = gateways.run_sql(
            f"sqlite:///{gateway.database}", "SELECT refresh_token, id_token FROM codex_credentials"
        )
        assert stored == [("", "")]

        login = Login(gateway, "--paste")
        assert login.end(come_back(browser, login.url) + "\n")[0] == 0
        assert gateways.ask(gateway).status == 200
        [after] = gateways.status(gateway)
        assert (after["upstream"], after["installation_id"]) == ("work", before["installation_id"])


def test_only_codex_upstreams_can_be_signed_out(installation):
    done = installation.run("codex", "logout", "nobody")
    assert (done.returncode, done.stderr) == (1, "Error: There is no Codex upstream named 'nobody'.\n")
