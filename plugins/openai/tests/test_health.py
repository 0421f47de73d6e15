"""What is known of an upstream without asking it, and what ``floway doctor`` finds out by asking."""

import json

import pytest

from floway_core.storage.db import connect
from floway_core.testing import Reply

from .conftest import KEY, add, as_json

pytestmark = pytest.mark.soak  # long: many processes, or many examples


def problem(gateway):
    (row,) = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    return row["problem"]


def test_a_connection_that_cannot_be_used(gateway, caller, upstream):
    add(gateway, "one", upstream.url)
    assert problem(gateway) is None
    database = connect(f"sqlite:///{gateway.database}")
    with database.connection_context():
        database.execute_sql("UPDATE upstream_connections SET api_key = 'broken'")
    assert "cannot be decrypted" in problem(gateway)
    with database.connection_context():
        database.execute_sql("DELETE FROM upstream_connections")
    database.close_all()
    told = caller.get("/readyz").json()
    assert told["status"] == "degraded" and "not set up" in problem(gateway)
    assert upstream.requests == []


def test_the_doctor_asks_without_the_key_where_it_is_and_with_it_for_models(gateway, upstream):
    add(gateway, "one", upstream.url)
    findings = json.loads(gateway.run("doctor", "--json").stdout)
    (found,) = [finding for finding in findings if finding["check"] == "upstreams"]
    assert (found["status"], found["message"]) == ("ok", "one serves 2 models")
    sent = [(request.method, request.header("authorization")) for request in upstream.requests]
    assert sent == [("HEAD", None), ("GET", f"Bearer {KEY}")]


def diagnosed(gateway):
    """(what the doctor finds wrong with the upstream, what it says to do)"""
    findings = json.loads(gateway.run("doctor", "--json").stdout)
    (found,) = [finding for finding in findings if finding["check"] == "upstreams"]
    assert found["status"] == "fail"
    return found["message"], found["remedy"]


PAGE = [("content-type", "text/html; charset=utf-8")]
CREDENTIALS, ADDRESS, NEITHER = "credentials are wrong", "address is probably wrong", "does not recover"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (as_json({"error": {"message": "Incorrect API key."}}, 401), CREDENTIALS),
        (as_json({"error": "no"}, 403), CREDENTIALS),
        (Reply([], 401, []), CREDENTIALS),
        (as_json({"detail": "Not Found"}, 404), ADDRESS),
        (Reply([b"404 page not found"], 404, [("content-type", "text/plain")]), ADDRESS),
        (as_json({}, 405), ADDRESS),
        (as_json({}, 400), ADDRESS),
        (as_json({}, 301, ("location", "https://example.com/")), ADDRESS),
        (Reply([b"<html>Welcome"], 200, PAGE), ADDRESS),
        (Reply([b"<html>Sign in"], 403, PAGE), ADDRESS),
        (as_json({"status": "ok"}), ADDRESS),
        (as_json([]), ADDRESS),
        (as_json({}, 500), NEITHER),
        (as_json({}, 503), NEITHER),
        (as_json({}, 429), NEITHER),
    ],
)
def test_the_doctor_tells_a_wrong_address_from_wrong_credentials(gateway, upstream, answer, verdict):
    add(gateway, "one", upstream.url)
    upstream.answer_always("/v1/models", answer)
    _, mend = diagnosed(gateway)
    assert [text for text in (CREDENTIALS, ADDRESS, NEITHER) if text in mend] == [verdict]
    assert "floway openai --help" in mend and (verdict == NEITHER or f"{upstream.url}/v1" in mend)


def test_the_doctor_asks_whether_an_address_is_right_at_which_nobody_is(gateway, unreachable):
    add(gateway, "one", unreachable)
    told, mend = diagnosed(gateway)
    assert "cannot be reached" in told and f"Check the address {unreachable}/v1" in mend and "redentials" not in mend
