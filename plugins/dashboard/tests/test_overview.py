"""Sums, shares and times of the overview, and that a million requests take no time."""

import re
import time

import pytest

from floway_core.runtime.gateway import read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.testing import ApiClient, Installation
from floway_core.web.app import create_app

from .invented import fill_usage
from .visitor import ADMIN_TOKEN


def texts(html):
    """The texts of the cells of each row of all tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def wait_for(read, wanted):
    """Call ``read`` until it returns what is wanted; the gateway writes once a second."""
    deadline = time.monotonic() + 60
    while not wanted(value := read()):
        assert time.monotonic() < deadline, value
        time.sleep(0.05)
    return value


@pytest.fixture
def application(tmp_path):
    """The application in this process, and somebody who has signed in."""
    with Installation({"admin_token": ADMIN_TOKEN}, installed=["dashboard"]) as installation:
        manager = build_plugin_manager(only=["dashboard"])
        client = create_app(read_settings(manager, installation.environ), manager).test_client()
        token = re.search(r'name="form_token" value="([^"]+)"', client.get("/dashboard/sign-in").text)[1]
        sent = {"form_token": token, "password": ADMIN_TOKEN}
        assert client.post("/dashboard/sign-in", data=sent).status_code == 303
        yield installation, client


def test_the_sums_of_a_period(application):
    installation, client = application
    import sqlite3

    today, long_ago = (
        time.strftime("%Y-%m-%d", time.gmtime()),
        time.strftime("%Y-%m-%d", time.gmtime(time.time() - 20 * 86400)),
    )
    rows = [
        (today, "ada", "one", "up", 3, 1, 1000, 250, 100, 0, 0.5, 0),
        (today, "bob", "two", "up", 1, 0, 1000, 0, 0, 0, 0, 1),
        (long_ago, "ada", "one", "other", 6, 0, 2000, 1750, 0, 0, 2.0, 0),
        (today, "cleo", "-", "-", 2, 2, 0, 0, 0, 0, 0, 0),
    ]
    with sqlite3.connect(installation.database) as connection:
        connection.executemany(f"INSERT INTO usage VALUES ({', '.join('?' * 12)})", rows)
        times = [("all", "", today, 40, 19), ("all", "", today, 48, 1), ("key", "ada", today, 40, 1)]
        connection.executemany("INSERT INTO dashboard_first_bytes VALUES (?, ?, ?, ?, ?)", times)
    connection.close()
    page = client.get("/dashboard/overview").text
    tiles = [
        re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", tile)).strip()
        for tile in re.findall(r"<div><dt>.*?</div>", page, re.DOTALL)
    ]
    assert tiles == [
        "Requests 12",
        "Errors 25 % 3 requests",
        "Tokens 4.1k 4.0k in, 100 out",
        "Cost $2.50 1 requests unpriced",
        "Cache hits 50 % of the input tokens",
        "First byte 939 ms 19 of 20 within 939 ms",
    ]
    assert ["ada", "9", "11 %", "3.1k", "67 %", "$2.50", "939 ms"] in texts(page)
    assert ["bob", "1", "0 %", "1.0k", "0 %", "unknown", "–"] in texts(page)
    assert texts(page).count(["none", "2", "100 %", "0", "–", "$0.00", "–"]) == 2  # a model and an upstream
    assert ["other", "6", "0 %", "2.0k", "88 %", "$2.00", "–"] in texts(page)
    today_only = client.get("/dashboard/overview?period=today").text
    assert ["ada", "3", "33 %", "1.1k", "25 %", "$0.5000", "939 ms"] in texts(today_only)
    assert "other" not in str(texts(today_only))
    assert ["ada", "9", "11 %", "3.1k", "67 %", "$2.50", "939 ms"] in texts(client.get("/dashboard/usage/key").text)
    assert client.get("/dashboard/usage/nothing").status_code == 404


def test_a_chart_has_a_bar_for_each_day_and_no_style_of_its_own(application):
    _, client = application
    page = client.get("/dashboard/overview").text
    assert page.count("<svg ") - page.count('<svg class="icon"') == 0 or page.count('class="chart"') == 2
    assert page.count('class="bar"') == 30 * 5
    assert not re.search(r"<style|<script(?! src)|style=|http://(?!www.w3.org)", page)


@pytest.mark.soak
def test_a_million_requests_of_500_keys_are_shown_in_300_ms_of_processor_time(application):
    installation, client = application
    assert fill_usage(installation.database, [f"key-{number:03}" for number in range(500)], 1_500_000) > 1_000_000
    used = []
    for _ in range(3):
        before = time.process_time()
        assert "All 500" in client.get("/dashboard/overview").text
        used.append(time.process_time() - before)
    assert min(used) < 0.3, used
    assert len(texts(client.get("/dashboard/usage/key?page=20").text)) == 26


def test_requests_and_their_times_are_counted(gateway, operator, database):
    client = ApiClient(gateway.url, gateway.key, {"user-agent": "a <b>client</b>"})
    assert client.stream("Hi", model="echo").events()
    request_id = client.exchanges[-1].headers["x-request-id"]
    rows = wait_for(lambda: texts(operator.get("/dashboard/live").text), lambda rows: request_id in str(rows))
    (row,) = (row for row in rows if row[-1] == request_id)
    assert row[0] == "completed" and row[2:5] == ["test", "echo", "mirror"]
    assert row[9] == "a &lt;b&gt;client&lt;/b&gt;"
    overview = wait_for(lambda: operator.get("/dashboard/usage/model").text, lambda page: "echo" in page)
    (cells,) = (cells for cells in texts(overview) if cells and cells[0] == "echo")
    assert cells[-1].endswith((" ms", " s"))


def test_refused_requests_are_shown_and_pages_are_not(gateway, operator):
    refused = ApiClient(gateway.url, "wrong").create("Hi", model="echo")
    assert refused.status == 401
    rows = wait_for(
        lambda: texts(operator.get("/dashboard/live/rows").text),
        lambda rows: refused.headers["x-request-id"] in str(rows),
    )
    assert {row[-1] for row in rows if "invalid_api_key" in row[0]} == {refused.headers["x-request-id"]}
    assert len(rows) < 20
