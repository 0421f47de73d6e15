"""Budgets of keys, and the pages about the groups of keys that share one."""

import re

import pytest

from floway_core.administration import groups, keys
from floway_core.storage.db import select

from ..visitor import NASTY, SHOWN

pytestmark = pytest.mark.usefixtures("emptied")


def create(operator, name, **entered):
    return operator.submit(operator.get("/dashboard/groups/new"), "/dashboard/groups", {"name": name, **entered})


def path(database, name):
    return f"/dashboard/groups/{groups.find(database, name).id}"


def test_a_group_is_created_changed_and_removed(operator, database):
    answer = create(operator, NASTY, usd_per_day="2.50", usd_per_month="$1,000")
    assert answer.path == "/dashboard/groups" and SHOWN in answer.text and NASTY not in answer.text
    assert "$2.50 a day; $1,000.00 a month" in answer.text and "$0.00 of $2.50 today" in answer.text
    page = operator.get(path(database, NASTY))
    assert 'value="2.5"' in page.text and 'value="1000"' in page.text
    changes = {"name": "team", "usd_per_day": "", "allows_unpriced": "yes"}
    answer = operator.submit(page, groups.find(database, NASTY).id, changes)
    assert answer.notice == "The group team is changed."
    row = groups.find(database, "team")
    assert (row.usd_per_day, row.usd_per_month, row.allows_unpriced) == (None, 1000, True)
    question = operator.submit(operator.get(path(database, "team")), "/remove")
    assert question.title == "Remove the group team?" and groups.find(database, "team")
    assert operator.submit(question, "/remove").notice == "The group team is removed."
    assert groups.all_rows(database) == []


def test_a_key_gets_a_budget_and_a_group_and_loses_them(operator, database):
    groups.add(database, "team", {"usd_per_month": 50})
    page = operator.get("/dashboard/keys/new")
    entered = {"name": "laptop", "group": "team", "usd_per_day": "0.000000001", "usd_per_month": "20"}
    assert operator.submit(page, "/dashboard/keys", entered).status == 201
    row = keys.find(database, "laptop")
    assert (row.group, row.usd_per_day, row.usd_per_month, row.allows_unpriced) == ("team", 1e-9, 20, False)
    page = operator.get(f"/dashboard/keys/{row.id}")
    assert "group team" in page.text and "$20.00 a month" in page.text and 'value="0.000000001"' in page.text
    assert "$0.00 of $20.00 this month" in page.text
    assert operator.submit(page, row.id).notice == "The key laptop is changed."
    assert keys.find(database, "laptop") == row  # what the page showed was sent back
    answer = operator.submit(operator.get(path(database, "team")), "/remove", {"confirmed": "yes"})
    assert answer.status == 409 and "still has API keys: &#39;laptop&#39;" in answer.text
    operator.submit(page, row.id, {"group": "", "usd_per_day": "", "usd_per_month": ""})
    row = keys.find(database, "laptop")
    assert (row.group, row.usd_per_day, row.usd_per_month, row.spent) == (None, None, None, None)


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("name", "", "The name of a group"),
        ("name", "taken", "There is already a group"),
        ("usd_per_day", "much", "Enter an amount of US dollars"),
        ("usd_per_day", "0", "Enter an amount of US dollars"),
        ("usd_per_month", "999999999999", "is an amount of USD"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_input_is_kept(operator, database, field, value, problem):
    groups.add(database, "taken")
    before = select(database, "SELECT name, day_budget FROM key_groups")
    answer = create(operator, **{"name": "kept-name", "usd_per_month": "7.77", field: value})
    assert answer.status == 400 and re.search(rf'id="{field}-hint">[^<]*{problem}', answer.text)
    assert (field == "name" or "kept-name" in answer.text) and (field == "usd_per_month" or "7.77" in answer.text)
    assert select(database, "SELECT name, day_budget FROM key_groups") == before


def test_a_viewer_sees_everything_and_changes_nothing(viewer, database):
    groups.add(database, "team", {"usd_per_day": 5})
    for shown in ("/dashboard/groups", "/dashboard/groups/new", path(database, "team")):
        page = viewer.get(shown)
        posts = re.findall(r'method="post" action="([^"]*)"', page.text)
        assert page.status == 200 and posts == ["/dashboard/sign-out"]
    token = page.form("/sign-out")[1]
    for action in ("/dashboard/groups", path(database, "team"), f"{path(database, 'team')}/remove"):
        assert viewer.post(action, {**token, "name": "two", "confirmed": "yes"}).status == 403
    assert [row.name for row in groups.all_rows(database)] == ["team"]
    assert viewer.get("/dashboard/groups/group_0").status == 404
