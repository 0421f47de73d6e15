"""What is known of an upstream without asking it, and what ``floway doctor`` finds out by asking."""

import json

from floway_core.db import connect

from .conftest import KEY, add, as_json


def problem(gateway):
    (row,) = json.loads(gateway.run("upstreams", "list", "--json").stdout)
    return row["problem"]


def test_a_connection_that_cannot_be_used(gateway, caller, upstream):
    add(gateway, "one", upstream.url)
    assert problem(gateway) is None
    database = connect(f"sqlite:///{gateway.database}")
    with database.connection_context():
        database.execute_sql("UPDATE openai_connections SET api_key = 'broken'")
    assert "cannot be decrypted" in problem(gateway)
    with database.connection_context():
        database.execute_sql("DELETE FROM openai_connections")
    database.close_all()
    told = caller.get("/readyz").json()
    assert told["status"] == "degraded" and "not set up" in problem(gateway)
    assert upstream.requests == []


def test_the_doctor_asks_without_the_key_where_it_is_and_with_it_for_models(gateway, upstream):
    add(gateway, "one", upstream.url)
    findings = json.loads(gateway.run("doctor", "--json").stdout)
    (found,) = [finding for finding in findings if finding["check"] == "upstreams"]
    assert (found["status"], found["told"]) == ("ok", "one serves 2 models")
    sent = [(request.method, request.header("authorization")) for request in upstream.requests]
    assert sent == [("HEAD", None), ("GET", f"Bearer {KEY}")]
    upstream.answer_always("/v1/models", as_json({}, 401))
    findings = json.loads(gateway.run("doctor", "--json").stdout)
    (found,) = [finding for finding in findings if finding["check"] == "upstreams"]
    assert found["status"] == "fail" and "401" in found["told"] and "floway openai" in found["mend"]
