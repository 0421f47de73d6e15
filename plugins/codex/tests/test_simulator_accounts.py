"""The simulator's accounts: tokens, sign-ins, quota."""

import base64
import json
import threading
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from floway_codex import simulator as sim
from floway_codex.simulator.oauth import CLIENT_ID

from .backend_client import (
    JSON,
    RESPONSES,
    BackendResponse,
    dispatch,
    post,
    send,
)


def refresh(backend: sim.Simulator, refresh_token: str, **more: JSON) -> BackendResponse:
    body = {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": refresh_token, **more}
    return send(backend.url, "POST", "/oauth/token", {"content-type": "application/json"}, body)


def claims(token: str) -> JSON:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_auth_json_holds_the_claims_the_cli_reads(backend: sim.Simulator) -> None:
    auth = backend.new_account("someone@example.com", "plus", access_lifetime=60)
    assert list(auth) == ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"]
    for name in ("id_token", "access_token"):
        token = claims(auth["tokens"][name])
        assert token["https://api.openai.com/auth"]["chatgpt_account_id"] == auth["tokens"]["account_id"]
        assert token["https://api.openai.com/auth"]["chatgpt_plan_type"] == "plus"
        assert token["https://api.openai.com/profile"]["email"] == "someone@example.com"
    assert claims(auth["tokens"]["access_token"])["exp"] <= time.time() + 60


def test_access_tokens(backend: sim.Simulator, auth: JSON) -> None:
    def code(answer: BackendResponse) -> tuple[int, str]:
        return answer.status, answer.json()["error"]["code"]

    headers, body = dispatch(auth)
    assert send(backend.url, "POST", RESPONSES, headers | {"authorization": "Bearer nobody"}, body).status == 401
    assert send(backend.url, "POST", RESPONSES, {}, body).status == 401
    assert code(post(backend, backend.new_account(access_lifetime=-1))) == (401, "token_expired")
    backend.expire_access_tokens()
    assert code(post(backend, auth)) == (401, "token_expired")
    renewed = refresh(backend, auth["tokens"]["refresh_token"]).json()
    assert post(backend, {"tokens": auth["tokens"] | renewed}).status == 200
    backend.revoke(auth["tokens"]["account_id"])
    assert code(post(backend, auth)) == (401, "token_invalidated")
    assert code(refresh(backend, renewed["refresh_token"])) == (401, "refresh_token_invalidated")


def test_refresh_tokens_are_single_use(backend: sim.Simulator, auth: JSON) -> None:
    first = refresh(backend, auth["tokens"]["refresh_token"], refresh_reason="proactive_expiry")
    assert first.status == 200 and first.json()["expires_in"] == 3600
    for token, code in (
        (auth["tokens"]["refresh_token"], "refresh_token_reused"),
        ("unknown", "refresh_token_invalidated"),
    ):
        again = refresh(backend, token)
        assert (again.status, again.json()["error"]["code"]) == (401, code)
    assert refresh(backend, first.json()["refresh_token"]).status == 200
    assert backend.refreshes == 2
    late = backend.new_account()["tokens"]["refresh_token"]
    backend.expire_refresh_tokens()
    assert refresh(backend, late).json()["error"]["code"] == "refresh_token_expired"


def test_of_concurrent_refreshes_one_wins(backend: sim.Simulator, auth: JSON) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(refresh(backend, auth["tokens"]["refresh_token"]).status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [401] * 7 and backend.refreshes == 1


def test_code_exchange_and_bad_token_requests(backend: sim.Simulator, auth: JSON) -> None:
    form = (
        f"grant_type=authorization_code&client_id={CLIENT_ID}&code={backend.new_authorization_code()}"
        "&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&code_verifier=v"
    )

    def exchange(text: str) -> int:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return send(backend.url, "POST", "/oauth/token", headers, text.encode()).status

    assert exchange(form + "&state=s") == 400
    assert exchange(form) == 200
    assert exchange(form) == 400
    assert exchange(f"grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token=x") == 400
    assert exchange("grant_type=password") == 400
    assert refresh(backend, "").status == 400
    assert refresh(backend, auth["tokens"]["refresh_token"], client_id="other").status == 401


def test_the_sign_in_page_sends_the_browser_back_with_a_code_for_one_verifier(backend: sim.Simulator) -> None:
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of the verifier, both from RFC 7636
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    callback = "http://localhost:1455/auth/callback"
    parameters = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": callback,
        "scope": "openid profile email offline_access",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "state": "some-state",
        "originator": "codex_cli_rs",
    }

    def authorize(**changes: str | None) -> BackendResponse:
        query = urlencode({name: value for name, value in {**parameters, **changes}.items() if value is not None})
        return send(backend.url, "GET", f"/oauth/authorize?{query}", {})

    def exchange(answer: BackendResponse, **changes: str) -> int:
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert answer.status == 302 and back["state"] == ["some-state"]
        form = {
            "grant_type": "authorization_code",
            "client_id": CLIENT_ID,
            "code": back["code"][0],
            "redirect_uri": callback,
            "code_verifier": verifier,
            **changes,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return send(backend.url, "POST", "/oauth/token", headers, urlencode(form).encode()).status

    assert exchange(authorize()) == 200
    assert exchange(authorize(), code_verifier=challenge) == 400
    assert exchange(authorize(), redirect_uri="http://localhost:1/auth/callback") == 400
    for name in parameters:
        assert authorize(**{name: None}).status == 400
        if name != "originator":
            assert authorize(**{name: "other"}).status == 400
    assert authorize(prompt="login").status == 400
    backend.deny_sign_ins()
    assert "error=access_denied" in authorize().headers["location"]


def test_quota(backend: sim.Simulator, auth: JSON) -> None:
    account = auth["tokens"]["account_id"]
    backend.use_up_quota(account, resets_in=120)
    answer = post(backend, auth)
    error = answer.json()["error"]
    assert answer.status == 429 and error["type"] == "usage_limit_reached" and 0 < error["resets_in_seconds"] <= 120
    assert answer.headers["x-codex-primary-used-percent"] == "100"
    assert answer.headers["x-codex-primary-reset-at"] == str(error["resets_at"])
    assert post(backend, backend.new_account()).status == 200
    backend.restore_quota(account)
    assert post(backend, auth).status == 200
    backend.use_up_quota(account, resets_in=-1)
    assert post(backend, auth).status == 200
