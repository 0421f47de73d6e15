"""Errors quote what a client has sent, but not megabytes of it."""

import pytest

LONG = "m" * 500_000


@pytest.mark.parametrize(
    "fields",
    [
        {"model": LONG},
        {"previous_response_id": LONG},
        {"conversation": LONG},
        {"input": [{"type": "item_reference", "id": LONG}]},
        {"metadata": {LONG: 1}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_an_error_is_short(ask, gateway, fields):
    before = len(gateway.log)
    answer = ask.create(**fields)
    assert 400 <= answer.status < 500
    assert len(answer.body) < 20_000
    assert len(gateway.log) - before < 5_000
