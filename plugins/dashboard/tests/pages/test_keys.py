"""The pages about API keys: create and show once, options, revoke, delete, and what a key has used."""

import datetime
import re
import time

import pytest

from floway_core.administration import keys
from floway_core.storage import upstreams
from floway_core.testing import ApiClient

from ..visitor import NASTY, SHOWN

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
def make(database):
    """Makes a key, and returns it as it is listed."""

    def make(name="laptop", **options):
        keys.create(database, name, options)
        return keys.find(database, name)

    return make


def path(row, *more):
    return "/".join(["/dashboard/keys", row.id, *more])


def create(operator, name, **entered):
    return operator.submit(operator.get("/dashboard/keys/new"), "/dashboard/keys", {"name": name, **entered})


def test_a_key_is_shown_this_one_time_and_works(gateway, operator, database):
    answer = create(operator, NASTY)
    secret = re.search(r'<code id="secret">(sk-floway-[\w-]+)</code>', answer.text)[1]
    assert answer.status == 201 and SHOWN in answer.text and NASTY not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert ApiClient(gateway.url, secret).get("/v1/models").status == 200
    row = keys.find(database, NASTY)
    for shown in ("/dashboard/keys", path(row)):
        page = operator.get(shown)
        assert SHOWN in page.text and row.hint in page.text and secret not in page.text


def test_all_options_are_set_and_reset(operator, database):
    one, two = (upstreams.add(database, "echo", name) for name in ("one", "two"))
    limits = {
        "requests_per_minute": "1,000",
        "concurrent_requests": "4",
        "tokens_per_day": "9",
        "max_stored_bytes": "1",
    }
    more = {"models": "a\n\n b ", "expires_at": "2040-02-03T04:05", "shows_account": "yes"}
    assert create(operator, "all", upstreams="only", **{f"upstream.{one.id}": "yes"}, **limits, **more).status == 201
    row = keys.find(database, "all")
    assert [vars(row)[name] for name in limits] == [1000, 4, 9, 1]
    assert (row.models, row.upstreams, row.shows_account) == (["a", "b"], ["one"], True)
    assert row.expires_at == datetime.datetime(2040, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()
    page = operator.get(path(row))
    assert "1,000 requests a minute" in page.text and 'value="2040-02-03T04:05"' in page.text
    assert operator.submit(page, row.id).notice == "The key all is changed."
    assert keys.find(database, "all") == row  # what the page showed was sent back
    empty = dict.fromkeys((*limits, "models", "expires_at"), "")
    fields = {**page.form(row.id)[1], **empty, "upstreams": "all"}
    del fields["shows_account"], fields[f"upstream.{one.id}"]
    assert f"upstream.{two.id}" not in fields
    operator.post(path(row), fields)
    row = keys.find(database, "all")
    assert (row.requests_per_minute, row.models, row.upstreams, row.expires_at, row.shows_account) == (
        *(None, None, None, None),
        False,
    )


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("name", "", "The name of a key"),
        ("name", "test", "There is already an API key named"),
        ("requests_per_minute", "many", "Enter a whole number"),
        ("tokens_per_day", "0", "Enter a whole number"),
        ("requests_per_minute", "9" * 12, "is a whole number from 1 to"),
        ("expires_at", "2001-01-01T00:00", "in the future"),
        ("expires_at", "tomorrow", "Enter a date and a time"),
        ("models", "x" * 101, "is a list of at least one name"),
        ("upstreams", "only", "Tick at least one"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_input_is_kept(operator, database, field, value, problem):
    upstreams.add(database, "echo", "one")
    answer = create(operator, **{"name": "kept-name", "concurrent_requests": "77", field: value})
    assert answer.status == 400 and [row.name for row in keys.all_rows(database)] == ["test"]
    assert re.search(rf'id="{field}-hint">[^<]*{problem}', answer.text)
    assert 'value="77"' in answer.text and (field == "name" or 'value="kept-name"' in answer.text)


def test_a_key_whose_upstreams_were_removed_is_not_let_to_others(operator, database, make):
    for name in ("gone", "other"):
        upstreams.add(database, "echo", name)
    row = make(upstreams=["gone"])
    upstreams.remove(database, "gone")
    answer = operator.submit(operator.get(path(row)), row.id, {"tokens_per_day": "5"})
    assert answer.notice == "The key laptop is changed."
    row = keys.find(database, "laptop")
    assert row.tokens_per_day == 5 and row.upstreams is not None and "other" not in row.upstreams


def test_a_key_that_has_expired_can_be_changed(operator, database, make):
    row = make(expires_at=int(time.time()) + 3600)
    with database.connection_context():
        database.execute_sql("UPDATE api_keys SET expires_at = 1000000000 WHERE id = ?", [row.id])
    page = operator.get(path(row))
    assert ">expired<" in page.text
    assert operator.submit(page, row.id, {"tokens_per_day": "5"}).notice == "The key laptop is changed."
    assert keys.find(database, "laptop").expires_at == 1_000_000_000


def test_revoking_and_deleting_ask_first(operator, database, make):
    row = make(NASTY)
    question = operator.submit(operator.get(path(row)), "/revoke")
    assert question.title == f"Revoke the key {SHOWN}?" and keys.find(database, NASTY).revoked_at is None
    page = operator.submit(question, "/revoke")
    assert page.path == path(row) and ">revoked<" in page.text and keys.find(database, NASTY).revoked_at
    question = operator.submit(page, "/delete")
    assert question.title == f"Delete the key {SHOWN}?" and keys.find(database, NASTY)
    assert operator.submit(question, "/delete").path == "/dashboard/keys"
    assert [each.name for each in keys.all_rows(database)] == ["test"]
    assert operator.get(path(row)).title == "Not found"


def test_the_list_is_searched_and_comes_in_pages(operator, database, make):
    rows = [make(f"client-{number:02}") for number in range(30)]
    page = operator.get("/dashboard/keys")
    assert "Page 1 of 2, 31 in total" in page.text and "client-29" in page.text and "client-00" not in page.text
    assert "client-00" in operator.get("/dashboard/keys?page=2").text
    for wanted, found in (("LIENT-07", "client-07"), (rows[3].hint[-4:], "client-03")):
        page = operator.get(f"/dashboard/keys?q={wanted}")
        assert found in re.findall(r'scope="row"><a [^>]*>([\w-]+)', page.text)
    page = operator.get("/dashboard/keys?q=%3Cb%3E")
    assert "No key matches." in page.text and 'value="&lt;b&gt;"' in page.text


def test_the_usage_of_the_key_is_shown_with_its_sum(operator, database, make):
    row, today = make("meter"), datetime.datetime.now(datetime.UTC).date()
    lines = [("meter", "model-a", 3, 0.5, 0), ("meter", NASTY, 1234, 0.0, 2), ("other", "model-c", 7, 9.0, 0)]
    with database.connection_context():
        for key, model, requests, cost, unpriced in lines:
            database.execute_sql(
                "INSERT INTO usage VALUES (?, ?, ?, 'one', ?, 1, 10, 5, 20, 0, ?, ?)",
                [str(today), key, model, requests, cost, unpriced],
            )
    page = operator.get(path(row))
    table = page.text[page.text.index("Usage of 30 days") :]
    assert re.findall(r'scope="row">([^<]*)', table)[:3] == [SHOWN, "model-a", "All"]
    assert "1,237" in table and "$0.5000 + unknown" in table and "model-c" not in table


def test_a_viewer_sees_everything_and_changes_nothing(operator, viewer, database, make):
    row = make()
    actions = re.findall(r'action="(/dashboard/keys[^"]*)"', operator.get(path(row)).text)
    assert len(actions) == 3
    for shown in ("/dashboard/keys", "/dashboard/keys/new", path(row)):
        page = viewer.get(shown)
        assert page.status == 200 and re.findall(r'method="post" action="([^"]*)"', page.text) == [
            "/dashboard/sign-out"
        ]
    token = page.form("/sign-out")[1]
    for action in (*actions, "/dashboard/keys"):
        assert viewer.post(action, {**token, "name": "two", "confirmed": "yes"}).status == 403
    assert [keys.find(database, "laptop"), len(keys.all_rows(database))] == [row, 2]
