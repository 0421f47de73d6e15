"""What is known of an account without asking the backend, seen where operators look."""

import json

import pytest

from . import gateways

EMAIL = "ann@example.com"


@pytest.fixture
def ready(backend):
    """What /readyz and ``floway upstreams list`` say of the one account."""
    account = backend.new_account(email=EMAIL)
    with gateways.start(backend) as gateway:
        gateways.import_account(gateway, account)

        def read():
            asked = len(backend.requests)
            told = gateways.caller(gateway).get("/readyz", authorization=None).json()
            (row,) = json.loads(gateway.run("upstreams", "list", "--json").stdout)
            assert len(backend.requests) == asked and EMAIL not in json.dumps(told)
            assert [one["problem"] for one in told["problems"]] == ([row["problem"]] if row["problem"] else [])
            return told["status"], row["problem"]

        read.gateway, read.account_id = gateway, account["tokens"]["account_id"]
        yield read


def test_a_quota_that_is_used_up(ready, backend):
    assert gateways.ask(ready.gateway).status == 200
    assert ready() == ("ok", None)
    backend.use_up_quota(ready.account_id, resets_in=3600)
    assert gateways.ask(ready.gateway).status == 429
    status, problem = ready()
    assert status == "degraded" and "quota is used up; it resets in " in problem
    backend.restore_quota(ready.account_id)
    assert gateways.ask(ready.gateway).status == 200
    assert ready() == ("ok", None)


def test_an_account_that_is_signed_out_or_refused(ready, backend):
    backend.expire_refresh_tokens()
    backend.expire_access_tokens()
    assert gateways.ask(ready.gateway).status == 503
    status, problem = ready()
    assert status == "degraded" and "refresh_failed" in problem and "floway codex login" in problem
    (row,) = json.loads(ready.gateway.run("upstreams", "list", "--json").stdout)
    assert ready.gateway.run("codex", "logout", row["name"]).returncode == 0
    assert "signed_out" in ready()[1]


def examined(gateway):
    """What ``floway doctor`` says of the one upstream, and whether it has looked at the clock."""
    done = gateway.run("doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    return done.returncode, findings["upstreams"]["status"], findings["upstreams"]["message"], "clock" in findings


def test_the_doctor_asks_the_backend_although_the_models_are_known(ready, backend):
    assert gateways.ask(ready.gateway).status == 200
    backend.revoke(ready.account_id)
    returncode, status, told, _ = examined(ready.gateway)
    assert (returncode, status) == (1, "fail") and "session_terminated" in told


def test_the_doctor_finds_the_backend_and_an_account_that_is_signed_out(ready, backend):
    returncode, status, told, clock = examined(ready.gateway)
    assert (returncode, status, clock) == (0, "ok", True) and " serves " in told
    (row,) = json.loads(ready.gateway.run("upstreams", "list", "--json").stdout)
    assert ready.gateway.run("codex", "logout", row["name"]).returncode == 0
    returncode, status, told, clock = examined(ready.gateway)
    assert (returncode, status, clock) == (1, "fail", False) and "signed_out" in told


def test_the_doctor_tells_a_wrong_address_from_a_bad_sign_in(ready, backend):
    wrong = {"FLOWAY_CODEX_BASE_URL": f"{backend.url}/nowhere"}
    findings = json.loads(ready.gateway.run("doctor", "--json", environ=wrong).stdout)
    (found,) = [finding for finding in findings if finding["check"] == "upstreams"]
    assert (
        "404" in found["message"] and f"{backend.url}/nowhere" in found["remedy"] and "floway config" in found["remedy"]
    )
    assert "address is probably wrong" in found["remedy"] and "redentials" not in found["remedy"]
