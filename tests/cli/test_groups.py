"""``floway groups`` and the budgets of ``floway keys``: set, show, change and remove them."""

import json


def test_a_group_from_its_beginning_to_its_end(install):
    installation = install()

    def run(*arguments, fails=False):
        done = installation.run(*arguments)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    assert "floway groups add NAME" in run("groups", "list")
    run("groups", "add", "team", "--budget", "2.50/day", "--budget", "$50/month")
    run("keys", "create", "ann", "--group", "team", "--budget", "1/day")
    assert "ann" in (shown := run("groups", "list")) and "0.00 of 2.50 USD today; 0.00 of 50.00 USD this month" in shown
    assert "group team; 0.00 of 1.00 USD today" in run("keys", "list")
    (row,) = json.loads(run("groups", "list", "--json"))
    assert (row["keys"], row["usd_per_day"], row["usd_per_month"], row["allows_unpriced"]) == (["ann"], 2.5, 50, False)
    assert "BUDGET OF" in (used := run("usage")) and "0.00 of 50.00 USD this month" in used

    run("groups", "change", "team", "--name", "crew", "--clear", "--budget", "3/month", "--allow-unpriced")
    assert "'ann'" in run("groups", "remove", "crew", fails=True)
    (row,) = json.loads(run("groups", "list", "--json"))
    assert (row["name"], row["usd_per_day"], row["usd_per_month"], row["allows_unpriced"]) == ("crew", None, 3, True)

    run("keys", "change", "ann", "--clear", "budget", "--clear", "group")
    (key,) = json.loads(run("keys", "list", "--json"))
    assert [key[name] for name in ("group", "usd_per_day", "usd_per_month", "spent")] == [None] * 4
    run("groups", "remove", "crew")
    assert json.loads(run("groups", "list", "--json")) == []


def test_what_is_no_budget(install):
    installation = install()
    for amount in ("50", "50/week", "-1/day", "1e3/month", "x/day", "0/day"):
        done = installation.run("groups", "add", "team", "--budget", amount)
        assert done.returncode != 0 and "USD" in done.stderr, amount
    for arguments, says in (
        (("groups", "add", "team", "--budget", "1/day", "--budget", "2/day"), "same period"),
        (("groups", "change", "team"), "nothing to change"),
        (("keys", "create", "ann", "--group", "team"), "no group named 'team'"),
        (("groups", "remove", "team"), "no group named 'team'"),
    ):
        done = installation.run(*arguments)
        assert done.returncode != 0 and says in done.stderr
    assert json.loads(installation.run("groups", "list", "--json").stdout) == []
