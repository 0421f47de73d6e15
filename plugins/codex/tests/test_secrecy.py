"""A gateway's whole life with an account, and a search for its secrets in everything that was written meanwhile."""

import base64
import json
import subprocess
import sys

import pytest
import requests
from floway_codex.simulator import Simulator, refusal

from . import gateways
from .test_login import Login, come_back

pytestmark = pytest.mark.soak


def spellings(secret):
    """The secret as such, and within base64 at each of its three places."""
    yield secret.encode()
    for before in range(3):
        # What is around it changes the first and the last characters only.
        yield base64.b64encode(b"\0" * before + secret.encode())[4:-4]


def used(simulator):
    """Every token, code and verifier there has been so far."""
    known = simulator.backend.accounts
    verifiers = [one.body["code_verifier"] for one in simulator.requests if "code_verifier" in (one.body or {})]
    codes = [one.body["code"] for one in simulator.requests if "code" in (one.body or {})]
    return [*known.access_tokens, *known.refresh_tokens, *verifiers, *codes]


def test_no_secret_of_an_account_is_ever_written_in_plain(tmp_path):
    written = {}
    with Simulator() as simulator, requests.Session() as browser:
        browser.trust_env = False
        account = simulator.new_account(email="ann@example.com")
        simulator.sign_in_browser(account["tokens"]["account_id"])
        secrets = [account["tokens"]["id_token"]]
        with gateways.start(simulator, log_level="debug") as gateway:

            def run(*arguments, typed=None):
                done = subprocess.run(
                    [sys.executable, "-m", "floway_core", *arguments],
                    env=gateway.environ,
                    input=typed,
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                written[f"{len(written)} {' '.join(arguments)}"] = done.stdout + done.stderr
                return done

            def ask():
                exchange = gateways.ask(gateway)
                written[f"{len(written)} answer {exchange.status}"] = str(exchange.headers) + exchange.received.decode()
                return exchange.status

            assert run("codex", "import", "-", "--name", "work", typed=json.dumps(account)).returncode == 0
            assert run("codex", "import", "-", typed=json.dumps(account)[:-20]).returncode == 1
            assert ask() == 200
            simulator.expire_access_tokens()
            assert ask() == 200 and simulator.refreshes == 1
            bearer = next(reversed(simulator.backend.accounts.access_tokens))
            simulator.script(refusal(400, {"error": {"message": "no", "code": "bad"}}))
            assert ask() == 400
            login = Login(gateway, "--paste")
            written["login"] = login.end(come_back(browser, login.url) + "\n")[1]
            assert ask() == 200
            written["login's arguments"] = " ".join(login.arguments)
            simulator.expire_refresh_tokens()
            simulator.expire_access_tokens()
            assert ask() == 503
            for arguments in (["codex", "status"], ["codex", "status", "--json"], ["config"], ["upstreams", "list"]):
                assert run(*arguments).returncode == 0
            assert run("codex", "logout", "work").returncode == 0
            gateway.stop()
            written["log"] = gateway.log
            files = [file for file in gateway.data_dir.rglob("*") if file.is_file()]
            contents = {file.name: file.read_bytes() for file in files}
        secrets += used(simulator)
    contents |= {name: text.encode() for name, text in written.items()}

    assert bearer in secrets and len(secrets) > 8
    for name, content in contents.items():
        for secret in secrets:
            assert not any(spelling in content for spelling in spellings(secret)), name
    # What is no secret was found, so the search looked in the right places.
    assert b"ann@example.com" in contents["floway.db"] + contents.get("floway.db-wal", b"")
    assert "POST /v1/responses" in written["log"] or "/v1/responses" in written["log"]
    assert any("refresh_token_expired" in text for text in written.values())
