"""Quota: read tolerantly, kept per limit, never in the way."""

import json

import pytest
from floway_codex.account import quota, status
from floway_codex.account.auth_file import import_account
from floway_codex.account.quota import parse_limits
from floway_codex.tables import Quota

from .conftest import auth_json, open_services

NOW = 1_800_000_000.0
HEADERS = [
    ("content-type", "text/event-stream"),
    ("x-codex-active-limit", "codex"),
    ("x-codex-plan-type", "pro"),
    ("x-codex-primary-used-percent", "12.5"),
    ("x-codex-primary-window-minutes", "300"),
    ("x-codex-primary-reset-after-seconds", "600"),
    ("x-codex-primary-reset-at", "1800000700"),
    ("x-codex-secondary-used-percent", "40"),
    ("x-codex-secondary-window-minutes", "10080"),
    ("x-codex-secondary-reset-after-seconds", "7200"),
    ("x-codex-credits-has-credits", "False"),
    ("x-codex-credits-unlimited", "true"),
    ("x-codex-credits-balance", ""),
]


def snapshot(*arguments):
    """The only one, or None."""
    found = parse_limits(*arguments)
    assert len(found) < 2
    return found[0] if found else None


def test_everything_in_the_headers():
    assert snapshot(HEADERS, NOW) == {
        "limit": "codex",
        "plan": "pro",
        "primary": {"used_percent": 12.5, "window_minutes": 300, "resets_at": 1800000700},
        "secondary": {"used_percent": 40, "window_minutes": 10080, "resets_at": 1800007200},
        "credits": {"has_credits": False, "unlimited": True},
    }


@pytest.mark.parametrize("value", ["", "  ", "nan", "inf", "-1", "soon", "0", "9" * 400])
def test_values_that_say_nothing(value):
    names = ("reset-at", "reset-after-seconds", "window-minutes")
    assert snapshot([(f"x-codex-primary-{name}", value) for name in names], NOW) is None
    if value != "0":
        assert snapshot([("x-codex-primary-used-percent", value)], NOW) is None


def test_no_headers_no_snapshot():
    assert snapshot([("content-type", "text/event-stream"), ("x-codex-turn-state", "x")], NOW) is None


def test_an_instant_may_be_a_date():
    found = snapshot([("x-codex-primary-reset-at", "2027-01-15T08:00:00Z")], NOW)
    assert found["primary"] == {"resets_at": 1800000000}


@pytest.mark.parametrize(
    "body, until",
    [
        ({"error": {"type": "usage_limit_reached", "resets_at": 1900000000, "resets_in_seconds": 5}}, 1900000000),
        ({"error": {"type": "usage_limit_reached", "resets_in_seconds": 60}}, 1800000060),
        ({"error": {"type": "usage_limit_reached"}}, 1800007200),
        ({"detail": "slow down"}, 1800007200),
        ([], 1800007200),
        ({"error": "text"}, 1800007200),
        ({"error": {"resets_at": {"strange": 1}}}, 1800007200),
    ],
)
def test_how_long_a_429_lasts(body, until):
    assert snapshot(HEADERS, NOW, json.dumps(body).encode())["refused_until"] == until


def test_a_429_may_have_a_body_alone_or_nothing_at_all():
    body = b'{"error": {"type": "usage_limit_reached", "resets_in_seconds": 60}}'
    assert snapshot([], NOW, body) == {
        "limit": "codex",
        "refused_until": 1800000060,
        "refused_because": "usage_limit_reached",
    }
    assert snapshot([], NOW, b"<html>") is None


def test_each_limit_has_its_row_and_the_latest_word_counts(services):
    upstream = import_account(services, auth_json())
    quota.record_limits(services, upstream.id, HEADERS, b'{"error": {"resets_in_seconds": 60}}')
    quota.record_limits(services, upstream.id, [*HEADERS[2:], ("x-codex-active-limit", "spark")])
    quota.record_limits(services, upstream.id, HEADERS)
    found = quota.read_limits(services, upstream.id)
    assert sorted(limit["limit"] for limit in found) == ["codex", "spark"]
    assert not any("refused_until" in limit for limit in found)
    with services.database.connection_context():
        assert Quota.select().count(services.database) == 2


def test_a_snapshot_that_cannot_be_stored_is_only_logged(services, caplog):
    quota.record_limits(services, "no such upstream", HEADERS)
    assert "could not be stored" in caplog.text


def test_the_status_shows_the_quota(services):
    upstream = import_account(services, auth_json())
    quota.record_limits(services, upstream.id, HEADERS, b'{"error": {"resets_at": 1900000000}}')
    shown = status.to_text(status.read_statuses(services)[0], NOW)
    assert "codex primary: 12.5 % used, of 5 h, resets in 11 min (2027-01-15 08:11 UTC)" in shown
    assert "codex secondary: 40 % used, of 7 d" in shown
    assert "codex: refused until in 1157 d" in shown
    limits = status.to_json(status.read_statuses(services)[0])["limits"]
    assert limits[0]["primary"]["resets_at"] == 1800000700 and limits[0]["refused_until"] == 1900000000


SPARK = [
    ("x-codex-bengalfox-primary-used-percent", "80"),
    ("x-codex-bengalfox-primary-window-minutes", "60"),
    ("x-codex-bengalfox-limit-name", "GPT-5.3-Spark"),
]


def test_further_limits_have_headers_of_their_own():
    found = parse_limits([*HEADERS, *SPARK], NOW)
    assert [limit["limit"] for limit in found] == ["codex", "codex_bengalfox"]
    assert found[1] == {
        "limit": "codex_bengalfox",
        "name": "GPT-5.3-Spark",
        "primary": {"used_percent": 80, "window_minutes": 60},
    }
    active = [("x-codex-active-limit", "codex_bengalfox"), *HEADERS[2:], *SPARK]
    found = parse_limits(active, NOW, b'{"error": {"type": "usage_limit_reached", "resets_in_seconds": 60}}')
    assert [limit["limit"] for limit in found] == ["codex_bengalfox", "codex"]
    assert found[0]["refused_until"] == NOW + 60 and "refused_until" not in found[1]
    assert found[1]["primary"]["used_percent"] == 12.5


def test_an_answer_cannot_make_any_number_of_rows():
    headers = [(f"x-codex-{number}-primary-used-percent", "1") for number in range(1000)]
    assert len(parse_limits([*HEADERS, *headers], NOW)) == 1 + quota.MAX_LIMITS


@pytest.fixture
def written(services):
    """The statements so far that have written a snapshot."""
    seen = []

    def hook(event):
        if event.sql.startswith("INSERT") and "codex_quota" in event.sql:
            seen.append(event.sql)

    services.database.query_hooks.append(hook)
    yield seen
    services.database.query_hooks.remove(hook)


def changed(name, value):
    return [(f"x-codex-{name}", value) if header == f"x-codex-{name}" else (header, old) for header, old in HEADERS]


@pytest.mark.parametrize(
    "headers, count",
    [
        (HEADERS, 1),
        (changed("primary-used-percent", "12.9"), 1),
        (changed("primary-reset-at", "1800000730"), 1),
        (changed("primary-used-percent", "13"), 2),
        (changed("primary-reset-at", "1800000800"), 2),
        (changed("secondary-window-minutes", "60"), 2),
        (changed("credits-balance", "5"), 2),
        (HEADERS[:6], 2),
    ],
)
def test_only_what_is_new_is_written(services, upstream, monkeypatch, written, headers, count):
    monkeypatch.setattr(quota.time, "time", lambda: NOW)
    quota.record_limits(services, upstream.id, HEADERS)
    quota.record_limits(services, upstream.id, headers)
    assert len(written) == count


def test_once_a_minute_it_is_written_all_the_same(services, upstream, monkeypatch, written):
    for later in range(0, 181, 10):
        monkeypatch.setattr(quota.time, "time", lambda later=later: NOW + later)
        quota.record_limits(services, upstream.id, HEADERS)
    assert len(written) == 4 and quota.read_limits(services, upstream.id)[0]["fetched_at"] == NOW + 180


def test_what_another_process_wrote_counts(services, tmp_path, upstream):
    """A limit that is lifted early is lifted, whoever was refused before."""
    other = open_services(tmp_path)
    refusal = b'{"error": {"type": "usage_limit_reached", "resets_in_seconds": 3600}}'
    quota.record_limits(services, upstream.id, HEADERS)
    quota.record_limits(other, upstream.id, HEADERS, refusal)
    assert "refused_until" in quota.read_limits(services, upstream.id)[0]
    quota.record_limits(services, upstream.id, HEADERS)
    assert "refused_until" not in quota.read_limits(services, upstream.id)[0]
    other.database.close_all()
