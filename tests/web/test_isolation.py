"""No route shows one API key's data to another: a foreign id gets the same answer as an unknown one."""

import json
import re
import uuid
from functools import partial
from types import SimpleNamespace

import pytest

from floway_core.runtime import plugins
from floway_core.runtime.gateway import read_settings
from floway_core.storage import keys
from floway_core.storage.db import connect, select
from floway_core.testing import ApiClient, Reply, items_stream, message_item
from floway_core.web.app import create_app

ADMIN_TOKEN = "the-admin-token-of-this-test"

BY_ID = {
    ("GET", "/v1/responses/<response_id>"),
    ("GET", "/v1/responses/<response_id>/input_items"),
    ("DELETE", "/v1/responses/<response_id>"),
    ("POST", "/v1/responses/<response_id>/cancel"),
    ("GET", "/responses/<response_id>"),
    ("GET", "/responses/<response_id>/input_items"),
    ("DELETE", "/responses/<response_id>"),
    ("POST", "/responses/<response_id>/cancel"),
}
"""Routes that name a response."""

CONVERSATION, ITEM = "/conversations/<conversation_id>", "/conversations/<conversation_id>/items/<item_id>"
BY_CONVERSATION = {
    (method, prefix + rule)
    for prefix in ("/v1", "")
    for method, rule in (
        ("GET", CONVERSATION),
        ("POST", CONVERSATION),
        ("DELETE", CONVERSATION),
        ("GET", f"{CONVERSATION}/items"),
        ("POST", f"{CONVERSATION}/items"),
        ("GET", ITEM),
        ("DELETE", ITEM),
    )
}
"""Routes that name a conversation."""

BY_BODY = {
    ("POST", "/v1/responses"),
    ("POST", "/responses"),
    ("POST", "/v1/responses/compact"),
    ("POST", "/responses/compact"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/responses/input_tokens"),
    ("POST", "/v1/conversations"),
    ("POST", "/conversations"),
}
"""Routes whose body may name responses and items."""

SAME_FOR_ALL = {
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/v1/models/<path:model>"),
    ("GET", "/models/<path:model>"),
    ("GET", "/v1/responses"),
    ("GET", "/responses"),
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
}
"""Routes that touch no conversation."""


def for_operators(rule):
    """Whether an API key does not open it at all."""
    return rule == "/metrics" or rule.startswith("/admin/api")


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Every method and path that core serves, with all that settings can turn on."""
    manager = plugins.build_plugin_manager(only=())
    folder = str(tmp_path_factory.mktemp("routes"))
    environ = {"FLOWAY_DATA_DIR": folder, "FLOWAY_ADMIN_TOKEN": ADMIN_TOKEN, "FLOWAY_METRICS": "token"}
    app = create_app(read_settings(manager, environ), manager)
    app.extensions["floway"].services.database.close_all()
    return {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}}


@pytest.fixture(scope="module")
def guarded(start_wired):
    """A gateway with an admin token."""
    return start_wired(admin_token=ADMIN_TOKEN, metrics="token")


@pytest.fixture
def two(guarded, fake_upstream):
    """Two clients with a key each, and what the first has stored: ids, and a text that the other must not see."""
    database = connect(f"sqlite:///{guarded.database}")
    mine, other = (
        ApiClient(guarded.url, keys.create(database, uuid.uuid4().hex), {"x-test-upstream": fake_upstream.url})
        for _ in range(2)
    )
    secret, word = f"the secret {uuid.uuid4().hex}", uuid.uuid4().hex
    given = {"id": f"msg_in_{word}", "type": "message", "role": "user", "content": secret}
    output = [
        message_item(f"answer to {secret}", id=f"msg_{word}"),
        {"id": f"rs_{word}", "type": "reasoning", "summary": [], "encrypted_content": f"sealed {word}"},
    ]
    fake_upstream.script(Reply(items_stream(output)))
    response = mine.create([given]).json()
    fake_upstream.requests.clear()
    conversation = mine.post({"items": [given]}, "/v1/conversations").json()
    yield SimpleNamespace(
        conversation=conversation["id"],
        mine=mine,
        other=other,
        database=database,
        secret=secret,
        given=given,
        output=output,
        response=response,
        items=[given["id"], *(item["id"] for item in output)],
    )
    database.close_all()


def unknown_like(known):
    """An id of the same shape that nobody was ever given."""
    found, other = re.subn(r"[0-9a-f]{32}", uuid.uuid4().hex, known)[::-1]
    assert found == 1
    return other


def seen(exchange, known):
    """Everything that a client gets to see, with the id it asked for taken out."""
    told = {name.lower(): value for name, value in exchange.headers.items()}
    hidden = {name: told.pop(name, None) for name in ("x-request-id", "date")}
    assert hidden["x-request-id"]
    return exchange.status, exchange.body.replace(known.encode(), b"ID"), told


def assert_untouched(two):
    """The first client still has what it had."""
    read = two.mine.get(f"/v1/responses/{two.response['id']}")
    assert (read.status, read.json()) == (200, two.response)
    listed = two.mine.get(f"/v1/responses/{two.response['id']}/input_items").json()
    assert [item["id"] for item in listed["data"]] == [two.given["id"]]


def owned(two, table, columns="COUNT(*)"):
    """Rows of the second client."""
    hashed = keys._hash(two.other.headers["authorization"].removeprefix("Bearer "))
    mine = "(SELECT id FROM api_keys WHERE key_hash = ?)"
    return select(two.database, f"SELECT {columns} FROM {table} WHERE api_key_id = {mine}", hashed)


# ---------------------------------------------------------------------------------------------------------- the tests
def test_every_route_is_considered(routes):
    """A new route has to be put into one of the sets above, and is tried then."""
    operators = {(method, rule) for method, rule in routes if for_operators(rule)}
    assert routes - operators == BY_ID | BY_CONVERSATION | BY_BODY | SAME_FOR_ALL


@pytest.mark.parametrize("query", ["", "?stream=true", "?stream=true&starting_after=1", "?limit=1&order=asc"])
@pytest.mark.parametrize(("method", "rule"), sorted(BY_ID))
def test_a_foreign_response_in_the_path(two, method, rule, query):
    foreign = two.response["id"]
    for known in (foreign, *two.items):
        answers = [
            seen(two.other.send(method, rule.replace("<response_id>", tried) + query), tried)
            for tried in (known, unknown_like(known))
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404 and two.secret.encode() not in answers[0][1]
    assert_untouched(two)


@pytest.mark.parametrize(("method", "rule"), sorted(BY_CONVERSATION))
def test_a_foreign_conversation_in_the_path(two, method, rule):
    body = json.dumps({"items": [{"role": "user", "content": "Hi"}], "metadata": {}}).encode()
    for known in (two.conversation, two.response["id"]):
        for item in two.items:
            answers = []
            for tried in (known, unknown_like(known)):
                path = rule.replace("<conversation_id>", tried).replace("<item_id>", item)
                answers.append(seen(two.other.send(method, path, body if method == "POST" else None), tried))
            assert answers[0] == answers[1]
            assert answers[0][0] == 404 and two.secret.encode() not in answers[0][1]
    listed = two.mine.get(f"/v1/conversations/{two.conversation}/items").json()
    assert [item["id"] for item in listed["data"]] == [two.given["id"]]


def test_a_foreign_item_in_the_path(two):
    """Not even in one's own conversation."""
    own = two.other.post({}, "/v1/conversations").json()["id"]
    for method, rule in sorted(row for row in BY_CONVERSATION if row[1].endswith(ITEM)):
        for known in two.items:
            answers = []
            for tried in (known, unknown_like(known)):
                path = rule.replace("<conversation_id>", own).replace("<item_id>", tried)
                answers.append(seen(two.other.send(method, path), tried))
            assert answers[0] == answers[1] and answers[0][0] == 404


def test_a_foreign_item_in_the_query(two, fake_upstream):
    fake_upstream.script(Reply(items_stream([])))
    own = two.other.create("Hi").json()["id"]
    for known in two.items:
        answers = [
            seen(two.other.get(f"/v1/responses/{own}/input_items?after={after}"), after)
            for after in (known, unknown_like(known))
        ]
        assert answers[0] == answers[1] and answers[0][0] == 400


def named_in_bodies(two):
    """Bodies that name, each in another way, what the first client has stored."""
    yield two.response["id"], lambda named: {"input": "Hi", "previous_response_id": named}
    yield two.response["id"], lambda named: {"previous_response_id": named}
    yield two.conversation, lambda named: {"input": "Hi", "conversation": named}
    yield two.conversation, lambda named: {"conversation": {"id": named}}
    for item in (two.response["id"], *two.items):
        yield item, lambda named: {"input": [{"type": "item_reference", "id": named}]}
        yield item, lambda named: {"input": [{"id": named}]}
        yield item, lambda named: {"input": [{"type": None, "id": named}]}
        yield item, lambda named: {"input": [{"type": None, "id": named, "status": None}]}


def items_of(body, named):
    """The same items in a conversation instead of an input."""
    return {"items": body(named)["input"]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("method", "path"), sorted(BY_BODY))
def test_foreign_ids_in_the_body(two, fake_upstream, method, path, stream):
    for known, body in named_in_bodies(two):
        if "conversations" in path:  # which names items in another field, and no other things
            if not (items := body(known).get("input")) or isinstance(items, str):
                continue
            body = partial(items_of, body)
        answers = [
            seen(two.other.post({"model": "model-1", "stream": stream, **body(named)}, path), named)
            for named in (known, unknown_like(known))
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] in (400, 404) and two.secret.encode() not in answers[0][1]
    assert fake_upstream.requests == [] and owned(two, "responses_snapshots") == [(0,)]
    assert_untouched(two)


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_a_foreign_history_sent_again_is_nobodys(two, fake_upstream, path):
    """Who knows every word of it still does not continue it."""
    history = [two.given, *two.output, {"role": "user", "content": "And?"}]
    fake_upstream.script(*[Reply(items_stream([message_item("New", id="msg_new")]))] * 2)
    assert two.other.post({"model": "model-1", "input": history}, path).status == 200
    sent = json.loads(fake_upstream.requests[0].body)["input"]
    assert [item.get("id") for item in sent] == [item.get("id") for item in history]
    assert owned(two, "responses_snapshots", "parent_id, depth") == [(None, 0)]
    assert two.mine.post({"model": "model-1", "input": history}, path).status == 200
    ((parent,),) = select(
        two.database,
        "SELECT mine.response_id FROM responses_snapshots AS next JOIN responses_snapshots AS mine "
        "ON next.parent_id = mine.id WHERE mine.response_id = ?",
        two.response["id"],
    )
    assert parent == two.response["id"]  # whose it is continues it
    assert_untouched(two)


def test_who_issued_a_foreign_compaction_is_not_told(two, fake_upstream, refused):
    sealed = {"type": "compaction", "id": "cmp_1", "encrypted_content": f"sealed {uuid.uuid4().hex}"}
    fake_upstream.script(Reply(items_stream([sealed])))
    assert two.mine.create("Hi").json()["output"] == [sealed]
    elsewhere = {"model": "canned", "input": [sealed, {"role": "user", "content": "And?"}]}
    refused(two.mine.post(elsewhere), 400, "responses_item_routing_unavailable", "input")
    assert two.other.post(elsewhere).status == 200


@pytest.mark.parametrize(("method", "rule"), sorted(SAME_FOR_ALL))
def test_what_is_the_same_for_all(two, method, rule):
    path = rule.replace("<path:model>", "model-1")
    mine, other = (caller.send(method, path) for caller in (two.mine, two.other))
    assert seen(mine, "-") == seen(other, "-")
    assert not any(word.encode() in mine.body for word in (two.secret, two.response["id"], *two.items))


def test_an_api_key_opens_nothing_that_is_for_operators(two, routes, guarded):
    operators = {(method, rule) for method, rule in routes if for_operators(rule)}
    assert operators
    for method, rule in operators:
        path = re.sub(r"<[^>]+>", two.response["id"], rule)
        for headers in ({}, {"authorization": None}, {"authorization": f"Bearer {guarded.key}"}):
            answer = two.other.send(method, path, headers=headers)
            assert answer.status == 401, (method, rule)
            assert two.secret.encode() not in answer.body
