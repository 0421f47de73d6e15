"""Authentication: API keys over HTTP."""

import pytest

from floway_core.testing import Reply, message_stream


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": None},
        {"authorization": "Bearer sk-floway-wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic c2stZmxvd2F5"},
        {"authorization": None, "x-api-key": "wrong"},
        {"authorization": None, "x-api-key": ""},
        {"authorization": "Bearer \xe9\xff"},
    ],
)
@pytest.mark.parametrize("target", [("POST", "/v1/responses"), ("GET", "/v1/models"), ("GET", "/v1/models/model-1")])
def test_a_request_without_a_valid_key_is_refused(ask, refused, fake_upstream, target, headers):
    answer = ask.send(*target, b'{"model":"model-1","input":"Hi"}' if target[0] == "POST" else None, headers)
    refused(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert fake_upstream.requests == []


@pytest.mark.parametrize("spelling", ["Bearer {}", "bearer {}", "BEARER  {}"])
def test_the_key_may_come_as_bearer(ask, gateway, spelling):
    assert ask.get("/v1/models", authorization=spelling.format(gateway.key)).status == 200


def test_the_key_may_come_as_x_api_key(ask, gateway):
    assert ask.get("/v1/models", authorization=None, x_api_key=gateway.key).status == 200


def test_a_key_is_refused_as_soon_as_it_is_revoked(ask, gateway, refused):
    bearer = f"Bearer {gateway.run('keys', 'create', 'short-lived').stdout.strip()}"
    assert ask.get("/v1/models", authorization=bearer).status == 200
    assert gateway.run("keys", "revoke", "short-lived").returncode == 0
    refused(ask.get("/v1/models", authorization=bearer), 401, "invalid_api_key")


def test_a_bad_body_is_not_looked_at_before_the_key(ask, refused):
    refused(ask.post(b"not JSON", authorization=None), 401, "invalid_api_key")


def test_credentials_of_the_client_stay_in_the_gateway(ask, gateway, fake_upstream, journal):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.send(
        "POST",
        "/v1/responses",
        b'{"model":"model-1","input":"Hi"}',
        {"x-api-key": gateway.key, "cookie": "a=b", "api-key": gateway.key, "X-Mine": "kept"},
    )
    assert answer.status == 200
    (request,) = fake_upstream.requests
    assert gateway.key not in str(request.headers) and request.header("cookie") is None
    seen = [line["client_headers"] for line in journal(answer.headers["x-request-id"]) if line["plugin"] == "auditor"]
    assert seen and all(gateway.key not in str(headers) and "cookie" not in headers for headers in seen)
    assert seen[0]["x-mine"] == "kept"


def test_the_key_stands_in_no_log(gateway, ask):
    assert ask.get("/v1/models").status == 200
    assert gateway.wait_for_log("key=test")
    assert gateway.key not in gateway.log
