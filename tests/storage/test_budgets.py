"""Budgets in the database: admission and spending under races, clock jumps and changes by operators."""

import calendar
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import peewee
import pytest

from floway_core.engine.trace import AttemptTrace, RequestTrace
from floway_core.errors import GatewayError
from floway_core.prices import Price
from floway_core.protocol.usage import Tokens
from floway_core.storage import budgets, groups, keys, limits
from floway_core.storage.budgets import Charge
from floway_core.storage.db import select
from floway_core.storage.leases import Leases
from floway_core.storage.usage import UsageBuffer
from floway_core.web.limits import AdmittedRequest

NOON = calendar.timegm((2028, 2, 28, 12, 0, 0))
"""Noon of the last day but one of a February with 29 days."""

DAY = 86_400


@pytest.fixture
def new_key(database):
    """Makes a key and returns what reads it as requests are authenticated with it."""

    def make(**options):
        name = uuid.uuid4().hex
        secret = keys.create(database, name, options)
        return lambda: keys.recognise(database, secret)

    return make


@pytest.fixture
def new_group(database):
    def make(**options):
        name = uuid.uuid4().hex
        groups.add(database, name, options)
        return name

    return make


@pytest.fixture
def spend(database):
    """One request of a key: let in, and ended with a cost. Returns the headers, or the error."""

    def spend(key, usd=0.0, unpriced=False):
        try:
            headers = budgets.check(database, key.budgets)
        except GatewayError as error:
            return error
        limits.release(database, key, uuid.uuid4().hex, 10, Charge(usd, unpriced))
        return headers

    return spend


def is_refused(outcome):
    return isinstance(outcome, GatewayError)


def test_a_day_and_its_end(new_key, spend, clock):
    key = new_key(usd_per_day=1)()
    told = [spend(key, 0.75), spend(key, 0.7501)]
    assert [headers["x-ratelimit-remaining-usd"] for headers in told] == ["1.00", "0.25"]
    refused = spend(key)
    assert (refused.status, refused.code, refused.type) == (429, "insufficient_quota", "insufficient_quota")
    assert refused.message == (
        "Budget used up: This API key has spent 1.50 of 1.00 USD today. It begins anew at 2028-02-29 00:00:00 UTC."
    )
    assert refused.headers["retry-after"] == str(12 * 3600) and refused.headers["x-should-retry"] == "false"
    assert refused.headers["x-ratelimit-remaining-usd"] == "0.00"
    assert refused.headers["x-ratelimit-reset-usd"] == "12h0m0s"
    clock.now += 12 * 3600 - 1
    assert spend(key).headers["retry-after"] == "1"
    clock.now += 1
    assert spend(key)["x-ratelimit-remaining-usd"] == "1.00"


def test_a_month_and_its_end(new_key, spend, clock):
    key = new_key(usd_per_month=2)()
    assert not is_refused(spend(key, 1.5))
    clock.now += DAY
    assert not is_refused(spend(key, 0.5))
    refused = spend(key)
    assert "2.00 of 2.00 USD this month. It begins anew at 2028-03-01 00:00:00 UTC." in refused.message
    assert refused.headers["retry-after"] == str(12 * 3600)
    clock.now += 12 * 3600
    assert not is_refused(spend(key))


def test_of_two_that_are_used_up_the_later_end_is_told(new_key, spend, clock):
    key = new_key(usd_per_day=1, usd_per_month=1)()
    spend(key, 1)
    assert spend(key).headers["retry-after"] == str(DAY + 12 * 3600)


def test_the_scarcest_is_told(new_key, new_group, spend, clock):
    key = new_key(usd_per_day=3, group=new_group(usd_per_month=2))()
    assert spend(key)["x-ratelimit-limit-usd"] == "2.00"
    key = new_key(usd_per_day=1, usd_per_month=1.5)()
    spend(key, 0.9)
    clock.now += DAY
    headers = spend(key)
    assert (headers["x-ratelimit-limit-usd"], headers["x-ratelimit-remaining-usd"]) == ("1.50", "0.60")


def test_key_and_group_hold_both(database, new_key, new_group, spend, clock):
    group = new_group(usd_per_day=2)
    one, other = new_key(group=group, usd_per_day=1.5)(), new_key(group=group)()
    spend(one, 1)
    spend(other, 0.75)
    assert not is_refused(spend(one, 0.5))
    assert "This API key has" in spend(one).message
    assert "The group of this API key has spent 2.25 of 2.00 USD" in spend(other).message
    groups.change(database, group, {"usd_per_day": 3})
    assert is_refused(spend(one))
    row = groups.find(database, group)
    assert (row.spent.usd_today, row.spent.usd_this_month) == (2.25, 2.25)


def test_a_changed_budget_holds_from_the_next_request_on(database, new_key, new_group):
    group = new_group(usd_per_day=1)
    key = new_key(group=group)
    assert [budget.per_day for budget in key().budgets] == [10**9]
    groups.change(database, group, {"usd_per_day": 2})
    assert [budget.per_day for budget in key().budgets] == [2 * 10**9]
    keys.change(database, key().name, {"group": None})
    assert key().budgets == ()


def test_a_group_of_a_new_name_keeps_its_spending(database, new_key, new_group, spend, clock):
    group = new_group(usd_per_day=1)
    key = new_key(group=group)
    spend(key(), 1)
    groups.change(database, group, {"name": group + "!"})
    assert is_refused(spend(key()))
    assert keys.find(database, key().name).group == group + "!"


def test_a_group_is_removed_when_it_has_no_keys(database, new_key, new_group, spend, clock):
    group = new_group(usd_per_day=1)
    key = new_key(group=group)
    holder = key().budgets[0].holder_id
    spend(key(), 0.5)
    with pytest.raises(GatewayError) as refusal:
        groups.remove(database, group)
    assert refusal.value.status == 409 and key().name in refusal.value.message
    keys.delete(database, key().name)
    assert groups.find(database, group).spent.usd_today == 0.5  # deleting a key gives its group no money back
    groups.remove(database, group)
    assert budgets.read(database, [holder]) == {}


def test_a_clock_that_jumps_loses_nothing(new_key, spend, clock):
    key = new_key(usd_per_day=1)()
    spend(key, 1)
    for jump in (400 * DAY, -40 * DAY):
        clock.now += jump
        assert not is_refused(spend(key, 0.25))
        clock.now -= jump
        assert is_refused(spend(key))


def test_what_a_key_spent_before_its_budget_counts(database, new_key, spend, clock):
    key = new_key()
    usage = UsageBuffer()
    usage.add(key().name, "m", "u", Tokens(1, 0, 1, 0), 0.75, False)
    usage.add(key().name, "n", "u", Tokens(1, 0, 1, 0), None, False)
    assert usage.flush(database) and not key().budgets
    keys.change(database, key().name, {"usd_per_month": 1})
    assert vars(keys.find(database, key().name).spent) == {
        "usd_today": 0.75,
        "usd_this_month": 0.75,
        "unpriced_requests": 1,
    }
    assert not is_refused(spend(key(), 0.25))
    keys.change(database, key().name, {"usd_per_month": 0.9})  # a changed budget counts on
    assert is_refused(spend(key()))


def test_what_a_key_spent_counts_once_if_its_budget_is_removed_and_set_again(database, new_key, spend, clock):
    key = new_key(usd_per_month=1)
    usage = UsageBuffer()
    usage.add(key().name, "m", "u", Tokens(1, 0, 1, 0), 0.75, False)
    spend(key(), 0.75)
    assert usage.flush(database)
    for budget in (None, 1):
        keys.change(database, key().name, {"usd_per_month": budget})
    assert keys.find(database, key().name).spent.usd_this_month == 0.75


def test_a_new_key_does_not_pay_for_an_older_one_of_its_name(database, new_key, clock):
    usage = UsageBuffer()
    usage.add("reborn", "m", "u", Tokens(1, 0, 1, 0), 5.0, False)
    usage.flush(database)
    clock.now += DAY
    keys.create(database, "reborn")
    keys.change(database, "reborn", {"usd_per_month": 1})
    assert keys.find(database, "reborn").spent.usd_this_month == 0


def test_whatever_races_the_sum_is_exact(database, new_key, new_group, spend):
    group = new_group(usd_per_month=1e6)
    members = [new_key(group=group, usd_per_day=1e6, tokens_per_day=10**9)() for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(lambda number: spend(members[number % 3], number / 1e9), range(60)))
    assert not any(map(is_refused, outcomes))
    assert groups.find(database, group).spent.usd_this_month == sum(range(60)) / 1e9


def test_what_could_not_be_stored_is_stored_later(database, new_key, clock):
    key, usage = new_key(usd_per_day=1)(), UsageBuffer()
    for usd in (0.25, 0.5):
        usage.spending.add(Charge(usd, is_unpriced=True).sums(key.budgets))
    assert usage.flush(database) and usage.flush(database)
    spent = keys.find(database, key.name).spent
    assert (spent.usd_today, spent.unpriced_requests) == (0.75, 2)


def test_the_charge_of_a_request_waits_for_a_database_that_fails(database, new_key, monkeypatch):
    key, usage = new_key(usd_per_day=1)(), UsageBuffer()
    services = SimpleNamespace(database=database)
    gateway = SimpleNamespace(services=services, leases=Leases(database), usage=usage, prices={})
    trace = RequestTrace([AttemptTrace(SimpleNamespace(price=lambda prices: Price(2.0, 4.0, 2.0)))])
    trace.events = SimpleNamespace(response={"usage": {"input_tokens": 100_000, "output_tokens": 50_000}})
    admission = AdmittedRequest(gateway, key, "request")

    def fail(*_):
        raise peewee.OperationalError("The server is gone.")

    with monkeypatch.context() as broken:
        broken.setattr(limits, "release", fail)
        admission.end_finally(SimpleNamespace(tokens=Tokens(100_000, 0, 50_000, 0), trace=trace))
    admission.end(Tokens(100_000, 0, 50_000, 0), trace)  # is no second charge
    assert usage.flush(database)
    assert budgets.read(database, [key.id])[key.id].today == 400_000_000


def test_what_nobody_reads_any_more_is_deleted(database, new_key, spend, clock):
    gone, kept = new_key(usd_per_day=1), new_key(usd_per_day=1)()
    gone_id = gone().id
    spend(gone(), 0.5)
    spend(kept, 0.5)
    clock.now += 101 * DAY
    spend(kept, 0.25)
    late = gone()
    keys.delete(database, late.name)
    spend(late, 0.1)  # its last request ends
    keys.finish_deletions(database)
    sql = "SELECT spent FROM budget_spending WHERE holder_id = ?"
    assert select(database, sql, gone_id) == [] and select(database, sql, kept.id) == [(250_000_000,)]


@pytest.fixture
def statements(database):
    """The first words of the statements from now on."""
    seen = []

    def hook(event):
        seen.append(event.sql.split()[0])

    database.query_hooks.append(hook)
    yield seen
    database.query_hooks.remove(hook)


def test_a_key_without_a_budget_costs_no_statement(database, new_key, spend, statements):
    key = new_key()()
    statements.clear()
    assert (key.budgets, spend(key, 1.0)) == ((), {})
    assert statements == []


def test_a_budget_costs_one_statement_at_each_end(database, new_key, new_group, spend, statements):
    key = new_key(usd_per_day=1, group=new_group(usd_per_month=1))()
    statements.clear()
    spend(key, 0.5)
    assert statements == ["SELECT", "INSERT"]


@pytest.mark.parametrize("usd", [0, -1, 1e10, float("nan"), "5", True, 1e-12])
def test_a_wrong_amount(database, new_key, new_group, usd):
    for change, name in ((keys.change, new_key()().name), (groups.change, new_group())):
        with pytest.raises(GatewayError) as refusal:
            change(database, name, {"usd_per_day": usd})
        assert (refusal.value.status, refusal.value.param) == (400, "usd_per_day")


def test_an_unpriced_request_is_told(database, new_key, spend, clock):
    key = new_key(usd_per_day=1, allows_unpriced=True)()
    assert not key.needs_prices
    spend(key, unpriced=True)
    assert keys.find(database, key.name).spent.unpriced_requests == 1
    assert not is_refused(spend(key))


def test_every_budget_has_to_allow_models_without_a_price(new_key, new_group):
    strict, lax = new_group(usd_per_day=1), new_group(usd_per_day=1, allows_unpriced=True)
    assert new_key(group=strict, allows_unpriced=True)().needs_prices
    assert not new_key(group=lax)().needs_prices
    assert not new_key(group=new_group())().needs_prices  # a group without an amount only counts
