"""Every promise about accounts, quota and model lists, through a running gateway and the real command.

Rows are named as in the table of ``test_acceptance.py``.
"""

import dataclasses
import json
import time
import uuid

import pytest
from floway_codex.simulator import Simulator, compaction, refusal, reply, text
from floway_codex.simulator.accounts import unsigned_jwt
from floway_codex.simulator.responses import json_response

from floway_core.testing import Installation

from . import gateways
from .conftest import auth_json

pytestmark = pytest.mark.soak  # long: many processes, or many examples

LEFT_OUT = object()


# -------------------------------------------------------------------------------------------------- imported accounts
def with_tokens(**changes):
    """An auth.json in which some tokens are others, or left out."""
    made = auth_json()
    made["tokens"] = {name: value for name, value in {**made["tokens"], **changes}.items() if value is not LEFT_OUT}
    return made


def with_claims(**auth):
    """An auth.json whose id token says this of the account."""
    said = {"chatgpt_account_id": "a", "chatgpt_user_id": "u", "chatgpt_plan_type": "plus", "email": "ann@b.c", **auth}
    said = {name: value for name, value in said.items() if value is not LEFT_OUT}
    email = {"email": said.pop("email")} if "email" in said else {}
    return with_tokens(id_token=unsigned_jwt({**email, "https://api.openai.com/auth": said}))


# row: an auth.json that is refused, and what is said of it
REFUSED = {
    "IM-2 no JSON": ("{broken", "JSON"), "CF-3 null": (None, "no ChatGPT sign-in"), "CF-3 a list": ([], "no ChatGPT"),
    "CF-3 a text": ("text", "no ChatGPT sign-in"), "IM-2 no tokens": ({"tokens": None}, "no ChatGPT sign-in"),
    "ST-4 no refresh token": (with_tokens(refresh_token=LEFT_OUT), "tokens.refresh_token"),
    "ST-4 an empty one": (with_tokens(refresh_token=""), "tokens.refresh_token"),
    "ST-13 no access token": (with_tokens(access_token=LEFT_OUT), "tokens.access_token"),
    "ST-13 one of another type": (with_tokens(access_token={"a": 1}), "tokens.access_token"),
    "no id token": (with_tokens(id_token=LEFT_OUT), "tokens.id_token"),
    "JW-2 two segments": (with_tokens(id_token="a.b"), "not a JWT"),
    "JW-3 no base64": (with_tokens(id_token="a.!.c"), "not a JWT"),
    "JW-3 no JSON": (with_tokens(id_token="a.SECRETS.c"), "cannot be read"),
    "JW-4, IM-3 no claims": (with_tokens(id_token=unsigned_jwt({"email": "a@b.c"})), "account id"),
    "ST-5, CF-2 no account id": (with_claims(chatgpt_account_id=LEFT_OUT), "account id"),
    "ST-5, CF-2 an empty one": (with_claims(chatgpt_account_id=""), "account id"),
    "CF-2 no user id": (with_claims(chatgpt_user_id=""), "user id"),
    "CF-2 no email": (with_claims(email=LEFT_OUT), "email"), "CF-2 an odd email": (with_claims(email=5), "email"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(simulated):
    """What the import of each of ``OVERLOADED`` ends in."""
    _, gateway = simulated
    files = [gateway.folder / f"odd-{number}.json" for number in range(len(REFUSED))]
    for file, (content, _) in zip(files, REFUSED.values(), strict=True):
        file.write_text(content if content == "{broken" else json.dumps(content))
    ends = gateways.run_each(gateway, [["codex", "import", str(file)] for file in files])
    assert len(gateways.status(gateway)) == 1
    return dict(zip(REFUSED, ends, strict=True))


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_no_sign_in_is_refused(refusals, row):
    """In one line that quotes nothing of it; nothing is stored."""
    status, out, err = refusals[row]
    assert status == 1 and REFUSED[row][1] in err and err.count("\n") == 1 and out == ""
    assert not [secret for secret in ("refresh-first", "access-first", "SECRET") if secret in err]


def test_an_account_is_imported_shown_and_removed(simulated):
    """IM-1, CF-1, ST-1, CP-3, CP-4, JW-1, JW-6, QU-4: its name is its email's, no token is shown, nothing stays."""
    simulator, gateway = simulated
    made = simulator.new_account("ben@example.com", plan="plus")
    file = gateway.folder / "ben.json"
    file.write_text(json.dumps(made))
    commands = [["codex", "import", str(file)], ["codex", "status", "--json"]] * 2
    ends = gateways.run_each(gateway, [*commands, ["upstreams", "remove", "codex-ben@example.com", "--yes"]])
    assert [status for status, _, _ in ends[:4]] == [0, 0, 0, 0], ends
    _, account = json.loads(ends[1][1])
    assert json.loads(ends[3][1])[1]["installation_id"] == account["installation_id"]
    assert (account["upstream"], account["state"], account["plan"]) == ("codex-ben@example.com", "active", "plus")
    assert [limit["limit"] for limit in account["limits"]] == ["codex"]
    secrets = [made["tokens"][name] for name in ("access_token", "refresh_token", "id_token")]
    assert not [secret for secret in secrets if secret in repr(ends)]


def test_an_account_of_an_older_version_gets_an_installation(simulated):
    """JW-5, MG-1, X-19: and takes the next write at once; an email may stand on top of the claims."""
    simulator, _ = simulated
    legacy = [
        "INSERT INTO upstreams (id, kind, name, enabled, position, created_at, prefix) "
        "VALUES ('up_1', 'codex', 'old', 1, 1, 0, '')",
        "INSERT INTO codex_accounts VALUES ('up_1', 'a', 'u', 'e', 'p', '', 5)",
        "INSERT INTO codex_credentials VALUES ('up_1', 'sealed', 'sealed', 7, NULL, 0)",
        "INSERT INTO codex_health VALUES ('up_1', 'active', '', 3)",
    ]
    with Installation(gateways.settings(simulator), installed=["codex"]) as installation:
        back = gateways.run_each(installation, [["migrate"], ["migrate", "--to", "codex/0001_accounts", "--yes"]])
        assert [status for status, _, _ in back] == [0, 0], back
        for statement in legacy:
            gateways.run_sql(f"sqlite:///{installation.database}", statement)
        file = installation.folder / "auth.json"
        file.write_text(json.dumps(with_claims()))
        status = ["codex", "status", "--json"]
        before, done, after = gateways.run_each(installation, [status, ["codex", "import", str(file)], status])
    assert [before[0], done[0], after[0]] == [0, 0, 0], (before, done, after)
    (old,), (new,) = json.loads(before[1]), json.loads(after[1])
    assert uuid.UUID(old["installation_id"]).version == 4 and new["installation_id"] == old["installation_id"]
    assert (new["upstream"], new["email"], new["state"]) == ("old", "ann@b.c", "active")


# --------------------------------------------------------------------------------------------------------------- quota
NONE = dict.fromkeys(
    f"x-codex-{name}" for name in (
        "active-limit", "plan-type", "primary-used-percent", "primary-window-minutes", "primary-reset-after-seconds",
        "primary-reset-at", "secondary-used-percent", "secondary-window-minutes", "secondary-reset-after-seconds",
        "secondary-reset-at", "primary-over-secondary-limit-percent", "credits-has-credits", "credits-unlimited",
        "credits-balance",
    )
)  # fmt: skip
FULL = {"used_percent": 90, "window_minutes": 300}
# row: headers of a 200, what the status shows of the limit named "row"
HEADERS = {
    "QU-1, TX-6 all of them": (
        {"x-codex-primary-used-percent": "90", "x-codex-primary-window-minutes": "300", "x-codex-plan-type": "pro",
         "x-codex-primary-reset-at": "1900000000", "x-codex-credits-balance": "7"},
        {"primary": {**FULL, "resets_at": 1900000000}, "plan": "pro", "credits": {"balance": "7"}},
    ),
    "QU-3 few of them": ({"x-codex-primary-used-percent": "90"}, {"primary": {"used_percent": 90}}),
    "a date": ({"x-codex-primary-reset-at": "2027-01-15T08:00:00Z"}, {"primary": {"resets_at": 1800000000}}),
    "values that say nothing": (
        {"x-codex-primary-used-percent": "90", "x-codex-primary-reset-at": "0", "x-codex-secondary-used-percent": "nan",
         "x-codex-credits-has-credits": "", "x-codex-primary-window-minutes": "soon"},
        {"primary": {"used_percent": 90}},
    ),
}  # fmt: skip


def limits(gateway):
    """What the status shows of all limits, without the moment it was read."""
    account = gateways.status(gateway)[0]
    return {one["limit"]: {**one, "fetched_at": None} for one in account["limits"]}


@pytest.fixture(scope="module")
def noted(simulated):
    """What the status shows when all of ``HEADERS`` have come with answers and compactions."""
    simulator, gateway = simulated
    front = gateways.Front(simulator, gateway)
    simulator.clear()
    for place, (headers, _) in enumerate(HEADERS.values()):
        for path, item in (("/v1/responses", text()), ("/v1/responses/compact", compaction())):
            name = {"x-codex-active-limit": f"row_{place}_{path[4:]}"}
            simulator.script(reply(item, headers={**NONE, **headers, **name}))
            front.ask(path=path)
    return limits(gateway)


@pytest.mark.parametrize("row", HEADERS)
def test_the_quota_in_the_headers_of_an_answer_is_shown(noted, row):
    """QU-6, QU-9, TC-2, TX-27: as soon as the client has its answer."""
    for path in ("responses", "responses/compact"):
        name = f"row_{list(HEADERS).index(row)}_{path}"
        assert noted[name] == {"limit": name, "fetched_at": None, **HEADERS[row][1]}


# row: headers and body of a 429, until when it lasts: in so many seconds, or at an instant
PRIMARY, SECONDARY = "x-codex-primary-reset-after-seconds", "x-codex-secondary-reset-after-seconds"
REFUSALS = {
    "QU-2 the later of two": ({PRIMARY: "600", SECONDARY: "7200"}, {}, 7200),
    "X-21 resets_at": ({}, {"resets_at": 1900000000, "resets_in_seconds": 5}, 1900000000),
    "X-21 resets_in_seconds": ({}, {"resets_in_seconds": 60}, 60),
    "X-21 the body before the headers": ({PRIMARY: "600"}, {"resets_in_seconds": 60}, 60),
}


@pytest.fixture(scope="module")
def barred(simulated):
    """What the status shows after a 429 of each of ``REFUSALS``, and after a success for each of the limits."""
    simulator, gateway = simulated
    front = gateways.Front(simulator, gateway)
    simulator.clear()
    names = [{"x-codex-active-limit": f"refusal_{place}"} for place in range(len(REFUSALS))]
    for name, (headers, body, _) in zip(names, REFUSALS.values(), strict=True):
        error = {"error": {"type": "usage_limit_reached", "message": "No.", **body}}
        simulator.script(refusal(429, error, {**headers, **name}))
        answer = front.send({"input": "Hi"})
        assert answer.status == 429 and answer.json()["error"]["type"] == "usage_limit_reached"
    refused = limits(gateway)
    for name in names:
        simulator.script(reply(text(), headers={**NONE, **name, "x-codex-primary-used-percent": "1"}))
        front.ask()
    return refused, limits(gateway)


@pytest.mark.parametrize("row", REFUSALS)
def test_a_429_is_shown_relayed_and_bars_nothing(barred, row):
    """TX-2, TX-25, TX-30, QU-14 to QU-17: the next request is sent all the same, and its success ends it (X-21)."""
    name, until = f"refusal_{list(REFUSALS).index(row)}", REFUSALS[row][2]
    refused, after = (shown[name] for shown in barred)
    assert refused["refused_until"] == pytest.approx(until if until > 1e9 else time.time() + until, abs=60)
    assert "refused_until" not in after and after["primary"] == {"used_percent": 1}


def test_a_quota_that_cannot_be_stored_fails_no_request(front):
    """QU-10, QU-11: that is logged."""
    database = f"sqlite:///{front.gateway.database}"
    fails = "CREATE TRIGGER full BEFORE INSERT ON codex_quota BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    gateways.run_sql(database, fails)
    try:
        front.simulator.script(reply(text(), headers={"x-codex-active-limit": "unheard_of"}))
        assert front.ask()["status"] == "completed"
    finally:
        gateways.run_sql(database, "DROP TRIGGER full")
    assert "could not be stored: the disk is full" in front.gateway.log and "Traceback" not in front.gateway.log


# -------------------------------------------------------------------------------------------------------------- models
ENTRY = {"slug": "made-up", "use_responses_lite": False}
LISTS = {
    "MO-2 a refusal": (503, {}, "answered 503"),
    "MO-3 no models": (200, {}, "no model list"),
    "MO-3 a list": (200, [], "no model list"),
    "MO-3 models of another type": (200, {"models": {}}, "no model list"),
}


@pytest.mark.parametrize("row", LISTS)
def test_what_is_no_model_list_is_told(front, monkeypatch, row):
    """PR-4; the list that was there goes on serving."""
    status, body, message = LISTS[row]
    front.ask()
    monkeypatch.setattr(front.simulator.backend, "models", lambda request: json_response(status, body, ()))
    tested = front.gateway.run("upstreams", "test", "work")
    assert tested.returncode == 1 and message in tested.stderr + tested.stdout
    assert front.ask()["status"] == "completed"


# row: an entry of the list, whether it is served
ENTRIES = {
    "MO-4 no slug": ({"display_name": "x"}, False), "MO-4 an empty one": ({"slug": ""}, False),
    "MO-4 no text": ({"slug": 5}, False), "no object": ("text", False),
    "MO-5, MO-6, MO-8 nothing else": ({"slug": "few"}, True),
    "MO-7 modalities and levels": ({"slug": "m", "input_modalities": ["text", "image"],
                                    "supported_reasoning_levels": [{"effort": "low"}],
                                    "default_reasoning_level": "low"}, True),
    "MO-9, MO-10, MO-22 what nobody knows": ({"slug": "n", "input_modalities": ["smell"], "of_tomorrow": {},
                                              "supported_reasoning_levels": [{}], "default_reasoning_level": ""}, True),
    "hidden": ({"slug": "h", "visibility": "hide"}, True),
}  # fmt: skip


@pytest.fixture(scope="module")
def with_settings():
    """A gateway with another profile and encoding, whose backend has a list with all of ``ENTRIES``."""
    settings = {"codex_profile": "0.169.0", "codex_request_encoding": "zstd"}
    with Simulator() as simulator, gateways.start(simulator, **settings) as gateway:
        known = simulator.backend.catalogue
        entries = (*known.models, *(entry for entry, _ in ENTRIES.values()))
        gateways.import_account(gateway, simulator.new_account())
        simulator.backend.catalogue = dataclasses.replace(known, models=entries)
        assert gateways.caller(gateway).get("/v1/models").status == 200
        simulator.backend.catalogue = known
        yield simulator, gateway


def test_models_are_listed_and_entries_kept_whole(with_settings):
    """MO-1, MO-11, MO-16 to MO-21, PR-2: the CLI, which knows what is in them, gets them as they came."""
    simulator, gateway = with_settings
    caller = gateways.caller(gateway)
    listed = {model["id"]: model for model in caller.get("/v1/models").json()["data"]}
    native = caller.get("/backend-api/codex/models?client_version=0.142.0").json()["models"]
    for entry, served in ENTRIES.values():
        assert (entry in native) == served
        if served:
            assert listed[entry["slug"]]["owned_by"] == "openai"
    assert gateways.MODEL in listed
    (asked,) = [request for request in simulator.requests if request.method == "GET"]
    assert asked.path == "/backend-api/codex/models?client_version=0.169.0"
    assert asked.header("authorization") and asked.header("chatgpt-account-id")
    originator = asked.header("originator")
    assert originator.startswith("codex") and asked.header("user-agent").startswith(f"{originator}/0.169.0")


def test_each_setting_does_what_it_says(with_settings):
    """The profile and the encoding; the URLs lead all these tests to their simulators, and the lease has its own."""
    simulator, gateway = with_settings
    assert gateways.ask(gateway).status == 200
    request = simulator.dispatches[-1]
    assert (request.header("version"), request.header("content-encoding")) == ("0.169.0", "zstd")
    refused = gateway.run("upstreams", "list", environ={"FLOWAY_CODEX_PROFILE": "0.1.0"})
    assert refused.returncode == 1 and "0.169.0" in refused.stderr


# row: minutes since a model list was asked for, whether it serves, whether it is asked for again
AGES = {"young": (1, True, False), "ten minutes": (15, True, True), "a day": (25 * 60, False, True)}


def test_the_age_of_a_model_list():
    """One of ten minutes is renewed in the background, one of a day ago does not serve."""
    with Simulator() as simulator, gateways.start(simulator) as gateway:
        accounts = {row: simulator.new_account(f"{row.replace(' ', '-')}@example.com") for row in AGES}
        files = {row: gateway.folder / f"{minutes}.json" for row, (minutes, _, _) in AGES.items()}
        for row, file in files.items():
            file.write_text(json.dumps(accounts[row]))
        gateways.run_each(gateway, [["codex", "import", str(file)] for file in files.values()])
        gateways.keep_models(gateway)
        ids = {row: accounts[row]["tokens"]["account_id"] for row in AGES}
        for row, (minutes, _, _) in AGES.items():
            gateways.run_sql(
                f"sqlite:///{gateway.database}",
                f"UPDATE codex_catalogue SET fetched_at = fetched_at - {minutes * 60}, "
                f"""body = '{{"models": [{{"slug": "{row}"}}]}}' """
                f"WHERE upstream_id = (SELECT upstream_id FROM codex_accounts WHERE account_id = '{ids[row]}')",
            )
        simulator.backend.models = lambda request: json_response(503, {}, ())  # a new list would hide the old one
        listed = [model["id"] for model in gateways.caller(gateway).get("/v1/models").json()["data"]]
        asked = simulator.wait_for_requests(sum(again for _, _, again in AGES.values()))
    assert listed == [row for row, (_, served, _) in AGES.items() if served]
    told = {request.header("chatgpt-account-id") for request in asked}
    assert told == {ids[row] for row, (_, _, again) in AGES.items() if again}


# row: a model, the tier that is asked for, what a million tokens of new input, cached input and output cost
PRICES = {
    "MO-12": ("gpt-5.5", None, (5, 0.5, 30)), "MO-13 priority": ("gpt-5.5", "priority", (12.5, 1.25, 75)),
    "MO-12 another": ("gpt-5.4", None, (2.5, 0.25, 15)), "MO-14 no price": ("few", None, None),
}  # fmt: skip


def test_a_turn_is_priced_as_the_api_would():
    """By the tier in which it was served, and not at all where the model has no price."""
    with Simulator() as simulator, gateways.start(simulator) as gateway:
        entry = next(one for one in simulator.backend.catalogue.models if one["slug"] == gateways.MODEL)
        models = tuple({**entry, "slug": slug} for slug in {model for model, _, _ in PRICES.values()})
        simulator.backend.catalogue = dataclasses.replace(simulator.backend.catalogue, models=models)
        gateways.import_account(gateway, simulator.new_account())
        front, costs = gateways.Front(simulator, gateway), dict.fromkeys((model for model, _, _ in PRICES.values()), 0)
        for model, tier, rates in PRICES.values():
            simulator.script(reply(text("pong"), total_tokens=50_000, cached_tokens=1_000))
            used = front.ask(model=model, **({"service_tier": tier} if tier else {}))["usage"]
            counts = used["input_tokens"] - 1_000, 1_000, used["output_tokens"]
            if rates:
                costs[model] += sum(count * rate for count, rate in zip(counts, rates, strict=True)) / 1e6
        gateway.stop()
        rows = {row["model"]: row for row in json.loads(gateway.run("usage", "--json").stdout)}
    assert rows.pop("few")["cost_usd"] is None and costs.pop("few") == 0
    assert {model: row["cost_usd"] for model, row in rows.items()} == pytest.approx(costs)
