"""An installation as a team might have it, made up: keys, upstreams, a month of usage, and requests that run."""

import datetime
import random
import sqlite3
import time

from floway_core.testing import ApiClient

DAY = datetime.timedelta(days=1)
KEYS = ("ada", "grace-laptop", "ci", "support-bot", "docs-search", "notebook", "evals", "linus")
MODELS = {  # name: upstreams, USD for a million input and output tokens (None: unknown)
    "gpt-5.5": (("openai", "azure"), 1.25, 10.0),
    "gpt-5.5-mini": (("openai",), 0.25, 2.0),
    "claude-sonnet-5": (("anthropic",), 3.0, 15.0),
    "qwen3-coder": (("gpu-box",), None, None),
}
USAGE = (
    "INSERT INTO usage (day, api_key, model, upstream, requests, failed_requests, input_tokens, cached_tokens, "
    "output_tokens, reasoning_tokens, cost_usd, unpriced_requests) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
FIRST_BYTES = (
    "INSERT INTO dashboard_first_bytes (dimension, name, day, bucket, requests) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests"
)
REQUEST = (
    "INSERT INTO dashboard_requests (id, worker, is_running, started_at, seen_at, api_key, model, upstream, dialect, "
    "client, status, outcome, error, seconds, first_byte_seconds, input_tokens, cached_tokens, output_tokens) "
    "VALUES (?, 'host/1', ?, ?, ?, ?, ?, ?, 'responses', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def fill_usage(database, keys=KEYS, requests=40_000):
    """Add a month of usage: about this many requests, of all ``keys``."""
    chance, today = random.Random(20), datetime.datetime.now(datetime.UTC).date()
    usage, first_bytes = [], []
    for age in range(30):
        day = today - age * DAY
        busy = (0.3 if day.weekday() > 4 else 1) * (1 - age / 60)
        for place, key in enumerate(keys):
            for model, (upstreams, price_in, price_out) in MODELS.items():
                for upstream in upstreams:
                    size = requests / 30 / len(keys) / 5 * 1.6 * busy * chance.uniform(0.4, 1.6)
                    count = max(1, round(size * (2 if place < 2 else 0.8)))
                    failed = sum(chance.random() < 0.01 for _ in range(min(count, 60)))
                    sent, written = count * chance.randint(6000, 16000), count * chance.randint(300, 900)
                    cached = int(sent * chance.uniform(0.4, 0.8))
                    priced = price_in is not None
                    cost = (sent * price_in + written * price_out) / 1e6 if priced else 0
                    counts = (count, failed, sent, cached, written, written // 3, cost, 0 if priced else count)
                    usage.append((str(day), key, model, upstream, *counts))
                    bucket = round(chance.gauss(37, 4))
                    names = {"all": "", "key": key, "model": model, "upstream": upstream}
                    first_bytes += [(name, value, str(day), bucket, count) for name, value in names.items()]
    with sqlite3.connect(database, timeout=30) as connection:
        connection.executemany(USAGE, usage)
        connection.executemany(FIRST_BYTES, first_bytes)
    connection.close()
    return sum(row[4] for row in usage)


def add_requests(database, rows):
    """Add rows to the live requests: (id, seconds ago, key, model, upstream, client, status, outcome, error).

    Those without a status run.
    """
    now = time.time()
    with sqlite3.connect(database, timeout=30) as connection:
        for name, ago, key, model, upstream, client, status, outcome, error in rows:
            answered = (ago / 2, 0.7, 9120, 7424, 512) if status == 200 else (0.2, None, 0, 0, 0)
            ended = (status, outcome, error, *answered) if status else (None,) * 8
            row = (name, status is None, now - ago, int(now) + 3600, key, model, upstream, client, *ended)
            connection.execute(REQUEST, row)
    connection.close()


def fill_requests(database):
    """Add a few requests that run, and some that have ended."""
    add_requests(
        database,
        [
            ("01a2277e-0001", 3, "ada", "gpt-5.5", "openai", "codex_cli_rs/0.169.0", None, None, None),
            (
                "01a2277e-0002",
                9,
                "grace-laptop",
                "claude-sonnet-5",
                "anthropic",
                "claude-cli/2.1.197",
                None,
                None,
                None,
            ),
            ("01a2277e-0003", 12, "ci", "gpt-5.5-mini", "openai", "OpenAI/Python 2.8.0", 200, "completed", None),
            ("01a2277e-0004", 21, "ci", "gpt-5.5-mini", "openai", "OpenAI/Python 2.8.0", 200, "completed", None),
            ("01a2277e-0005", 34, "support-bot", "gpt-5.5", "azure", "node", 502, "failed", "upstream_unreachable"),
            (
                "01a2277e-0006",
                50,
                "evals",
                "qwen3-coder",
                "gpu-box",
                "python-httpx/0.28",
                429,
                None,
                "rate_limit_exceeded",
            ),
        ],
    )


def set_up(gateway):
    """Add keys, upstreams, an alias, a conversation, and the rest."""
    admin = ApiClient(gateway.url, gateway.environ["FLOWAY_ADMIN_TOKEN"])
    for name in KEYS:
        limits = {"requests_per_minute": 60, "tokens_per_day": 2_000_000} if name == "ci" else {}
        assert admin.post({"name": name, **limits}, "/admin/api/keys").status == 201
    for name in ("openai", "azure", "gpu-box"):
        added = {"kind": "openai", "name": name, "base_url": f"https://{name}.example/v1", "api_key": "sk-made-up"}
        assert admin.post({**added, "models": ["gpt-5.5", "gpt-5.5-mini"]}, "/admin/api/upstreams").status == 201
    group = {"name": "research", "usd_per_day": 25, "usd_per_month": 400}
    assert admin.post(group, "/admin/api/groups").status == 201
    for name in ("evals", "notebook"):
        changed = admin.send("PATCH", f"/admin/api/keys/{name}", b'{"group": "research", "usd_per_month": 150}')
        assert changed.status == 200
    client = ApiClient(gateway.url, gateway.key)
    assert client.create("Hello", model="echo").status == 200
    fill_usage(gateway.database)
    fill_requests(gateway.database)
