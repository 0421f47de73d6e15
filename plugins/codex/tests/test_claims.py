"""Where ids are looked for, and which values pass for ids."""

import json

import pytest
from floway_codex.identity import claims
from floway_codex.identity.claims import (
    BODY_METADATA,
    CLIENT_METADATA,
    HEADER,
    HEADER_METADATA,
    KEYS,
    KINDS,
    TURN_METADATA,
)
from floway_codex.identity.uuids import is_uuid4

INSTALLATION = "11111111-1111-4111-8111-111111111111"
CASES = [(name, place, key) for name, keys in KEYS.items() for place in KINDS for key in keys.get(KINDS[place], ())]


def placed(*values):
    """``(headers, body)`` with ``(place, key, value)`` in their places."""
    headers, client, metadata = {}, {}, {HEADER_METADATA: {}, BODY_METADATA: {}}
    for place, key, value in values:
        {HEADER: headers, CLIENT_METADATA: client, **metadata}[place][key] = value
    if metadata[HEADER_METADATA]:
        headers[TURN_METADATA] = json.dumps(metadata[HEADER_METADATA])
    if metadata[BODY_METADATA]:
        client[TURN_METADATA] = json.dumps(metadata[BODY_METADATA])
    return headers, {"client_metadata": client}


@pytest.mark.parametrize("name, place, key", CASES)
def test_an_id_is_found_in_each_of_its_places(name, place, key):
    found = claims.read_claims(*placed((place, key, "stated"))).find(name)
    assert (found.value, found.source) == ("stated", f"{place}: {key}")


@pytest.mark.parametrize("order", [claims.OVER_HTTP, claims.OVER_WEBSOCKET])
@pytest.mark.parametrize("name", list(KEYS))
def test_an_earlier_place_wins(name, order):
    chain = [(place, key) for place in order for key in KEYS[name].get(KINDS[place], ())]
    assert len(chain) == len([case for case in CASES if case[0] == name])
    for start, (place, key) in enumerate(chain):
        headers, body = placed(*((*at, f"value-{number}") for number, at in enumerate(chain) if number >= start))
        found = claims.read_claims(headers, body, order).find(name)
        assert (found.value, found.source) == (f"value-{start}", f"{place}: {key}")


def test_over_http_the_header_comes_first_and_over_a_websocket_the_body():
    """X-15: on a WebSocket the headers are those of the upgrade, whatever turn it is by now."""
    headers, body = placed((HEADER_METADATA, "turn_id", "upgrade"), (BODY_METADATA, "turn_id", "now"))
    headers["session-id"], body["client_metadata"]["session_id"] = "upgrade", "now"
    http, websocket = claims.read_claims(headers, body), claims.read_claims(headers, body, claims.OVER_WEBSOCKET)
    assert [http.find(name).value for name in ("session", "turn")] == ["upgrade", "upgrade"]
    assert [websocket.find(name).value for name in ("session", "turn")] == ["now", "now"]
    assert (http.turn_metadata["turn_id"], websocket.turn_metadata["turn_id"]) == ("upgrade", "now")


def test_a_value_that_does_not_fit_gives_way_to_the_next():
    headers, body = placed(
        (HEADER, "x-codex-installation-id", "no-uuid"), (CLIENT_METADATA, "x-codex-installation-id", INSTALLATION)
    )
    assert claims.read_claims(headers, body).find("installation", is_uuid4).value == INSTALLATION
    assert claims.read_claims({}, {}).find("installation", is_uuid4) is None


MALFORMED = ["", "   ", "x" * 201, "a\nb", "a\x7fb", "a\x00", "é", 7, None, True, ["a"], {"a": 1}]


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_values_are_ignored(value):
    assert claims.parse_id(value) is None
    for place in KINDS:
        if place == HEADER and not isinstance(value, str):
            continue
        key = KEYS["session"][KINDS[place]][0]
        assert claims.read_claims(*placed((place, key, value))).find("session") is None


def test_surrounding_blanks_do_not_count():
    assert claims.read_claims({"session-id": "  s "}, {}).find("session").value == "s"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        "null",
        "NaN",
        '{"a": NaN}',
        "[" * 3000 + "]" * 3000,
        None,
        5,
        json.dumps({"session_id": "s", "a": "x" * 16_384}),
    ],
)
def test_turn_metadata_that_cannot_be_relayed_is_ignored(text):
    for found in (
        claims.read_claims({TURN_METADATA: text}, {}),
        claims.read_claims({}, {"client_metadata": {TURN_METADATA: text}}),
    ):
        assert found.turn_metadata == {} and found.find("session") is None


def test_broken_turn_metadata_in_the_header_gives_way_to_that_of_the_body():
    _headers, body = placed((BODY_METADATA, "session_id", "in-body"))
    assert claims.read_claims({TURN_METADATA: "{broken"}, body).turn_metadata == {"session_id": "in-body"}


def test_client_metadata_may_be_anything():
    for client in (None, "x", 3, ["session_id"], {"session_id": 3, "other": {"a": 1}, "kept": "yes"}):
        assert claims.read_claims({}, {"client_metadata": client}).client_metadata in ({}, {"kept": "yes"})
    odd = {"a\nb": "x", "long": "x" * 16_385, "": "x", "kept": "any\ntext"}
    assert claims.read_claims({}, {"client_metadata": odd}).client_metadata == {"kept": "any\ntext"}
