"""Account details in upstream answers reach only clients whose API key shows the account."""

import json

import pytest

from floway_core.protocol import sse
from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway, write_plugin

PLUGIN = '''"""A provider whose answers tell of an account."""

import click

from floway_core.cli import services as services_of
from floway_core.settings import Setting, origin_url
from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import AccountDetails, Model, Provider
from floway_core.storage import upstreams
from floway_core.upstream import HttpClient


class Metered(Provider):
    kind = "metered"
    account_details = AccountDetails(
        headers=("x-account-*", "x-plan"),
        needed_headers=("x-account-turn",),
        response_fields=("account_user",),
        error_fields=("plan",),
        events=("account.*", "quota"),
    )

    def __init__(self, services):
        self._client, self._url = HttpClient(services.settings), services.settings.plugin["metered_url"]

    def list_models(self, upstream):
        return [Model("model-1", "metered")]

    def send(self, ctx):
        headers = {"content-type": "application/json"}
        return self._client.stream(ctx, "POST", f"{self._url}/answers", headers, jsontext.dumps(ctx.body))


@hookimpl
def register_settings():
    return [Setting("metered_url", origin_url, "http://127.0.0.1:9", "Where to send requests.")]


@hookimpl
def register_providers(services):
    return [Metered(services)]


@hookimpl
def register_commands(cli):
    @cli.command("add-metered")
    @click.argument("name")
    @click.pass_context
    def add(context, name):
        """Add an upstream."""
        upstreams.add(services_of(context).database, Metered.kind, name)
'''

HEADERS = [("x-account-id", "acct-9"), ("x-account-turn", "T"), ("x-plan", "gold"), ("x-planet", "Earth")]
SECRETS = (b"acct-9", b"gold", b"user-9", b"x-account-id", b"x-plan:")
ITEM = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": 'I say "account_user", "plan" and account.quota.', "annotations": []}],
}


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metered")
    write_plugin(folder, "metered", PLUGIN)
    with RunningGateway({"metered_url": upstream.url, "admin_token": "t" * 16}, plugin_folders=[folder]) as running:
        assert running.run("add-metered", "one").returncode == 0
        yield running


@pytest.fixture(scope="module")
def clients(gateway):
    """A client whose key shows the account, and one whose key does not."""
    shown = gateway.run("keys", "create", "shown", "--shows-account").stdout.strip()
    return {True: ApiClient(gateway.url, shown), False: ApiClient(gateway.url, gateway.key)}


def response(status, **more):
    return {"id": "resp_up", "object": "response", "created_at": 1, "status": status, "model": "model-1",
            "output": [], "account_user": "user-9", "instructions": None, **more}  # fmt: skip


def event(kind, named=True, end=b"\n\n", **content):
    head = f"event: {kind}\n" if named else ""
    return f"{head}data: {json.dumps({'type': kind, **content})}".encode() + end


DELTA = event("response.output_text.delta", delta="account_user and account.quota", item_id="msg_1")
BEGUN = event("response.created", response=response("in_progress"))
DONE = event("response.output_item.done", item=ITEM, output_index=0)
COMPLETED = event("response.completed", response=response("completed"))
LIMITS = event("account.limits", plan="gold", user="user-9")
QUOTA = event("quota", plan="gold")


def whole(exchange):
    """Head and body as bytes."""
    head = "".join(f"{name.lower()}: {value}\n" for name, value in exchange.headers.items())
    assert exchange.body is not None
    return head.encode() + exchange.received


STREAMS = {
    "one": [LIMITS + BEGUN + DELTA + DONE + QUOTA + COMPLETED],
    "events": [LIMITS, BEGUN, DELTA, DONE, QUOTA, COMPLETED],
    "bytes": [bytes([byte]) for byte in LIMITS + BEGUN + DELTA + DONE + QUOTA + COMPLETED],
    "unnamed": [
        event("account.limits", named=False, plan="gold"),
        event("response.created", named=False, response=response("in_progress")),
        DELTA,
        DONE,
        event("response.completed", named=False, response=response("completed")),
    ],
    "crlf": [(LIMITS + BEGUN + DELTA + DONE + QUOTA + COMPLETED).replace(b"\n", b"\r\n")],
}


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("cut", STREAMS)
def test_streams(upstream, clients, cut, stream, shown):
    upstream.script(Reply(STREAMS[cut], headers=[("content-type", "text/event-stream"), *HEADERS]))
    exchange = clients[shown].create("Hi", stream=stream)
    seen = whole(exchange)
    assert exchange.status == 200 and b"x-account-turn: T" in seen and b"x-planet: Earth" in seen
    assert [secret in seen for secret in (b"acct-9", b"user-9", b"x-account-id", b"x-plan:")] == [shown] * 4
    assert b'I say \\"account_user\\", \\"plan\\" and account.quota.' in seen
    if stream:
        assert (b"account.limits" in seen) == shown
        told = exchange.events()
        final = told[-1]["response"]
        assert [one["delta"] for one in told if "delta" in one] == ["account_user and account.quota"]
    else:
        final = exchange.json()
    assert final["account_user"] == ("user-9" if shown else None)


def test_events_without_the_account_pass_byte_for_byte(upstream, clients):
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    announced = [
        event("response.output_item.added", output_index=0, item=item),
        event("response.content_part.added", item_id="msg_1", output_index=0, content_index=0, part=part),
        event("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta="account.quota"),
    ]
    odd = [b": a comment\n\n", b"id: 7\nretry: 5\nevent: x\ndata: {}\n\n", *announced]
    upstream.script(Reply([LIMITS, BEGUN, *odd, QUOTA, DONE, COMPLETED]))
    assert b"".join(odd) in clients[False].stream().body


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("gap", ["", "\n\n"])
def test_an_answer_in_one_piece(upstream, clients, shown, pieces, gap):
    content = json.dumps(response("completed", output=[ITEM])).replace(', "', f', {gap}"').encode()
    step = -(-len(content) // pieces)
    chunks = [content[start : start + step] for start in range(0, len(content), step)]
    for stream in (False, True):
        upstream.script(Reply(chunks, headers=[("content-type", "application/json"), *HEADERS]))
        assert (b"user-9" in whole(clients[shown].create("Hi", stream=stream))) == shown


FAULT = {"message": "m", "code": "used_up", "plan": "gold"}
DOCUMENTS = {
    "response": json.dumps(response("completed", output=[ITEM])),
    "error": json.dumps({"error": FAULT}),
    "errors": json.dumps([{"error": FAULT}]),
    "spread": json.dumps(response("completed", output=[ITEM]), indent=1).replace(",\n", ",\n\n"),
}


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("end", ["", "\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("cut", ["one", "bytes"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_instead_of_a_stream_is_looked_into(upstream, clients, kind, mark, cut, end, shown):
    content = (mark + DOCUMENTS[kind] + end).encode()
    chunks = [content] if cut == "one" else [bytes([byte]) for byte in content]
    for stream in (False, True):
        upstream.script(Reply(chunks, headers=[("content-type", "text/event-stream"), *HEADERS]))
        seen = whole(clients[shown].create("Hi", stream=stream))
        assert (b"user-9" in seen or b"gold" in seen) == shown
        assert b"I say" in seen or b"used_up" in seen


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize(
    "part",
    [
        json.dumps({"error": FAULT}).encode() + b"\n\n",
        event("account.limits", plan="gold").replace(b"}", b',"x":NaN}'),
        event("response.in_progress", response=response("in_progress", plan="gold", x=["?"])).replace(b"?", b"\xff"),
        b'data: {"type":"error","error":{"plan":"gold"},"x":%b}\n\n' % (b"[" * 300 + b"]" * 300),
    ],
    ids=["object", "constant", "encoding", "depth"],
)
def test_what_is_no_readable_event_does_not_tell(upstream, clients, part, shown):
    upstream.script(Reply([BEGUN, part, DONE, COMPLETED]))
    seen = whole(clients[shown].stream())
    assert (b"gold" in seen) == shown and b"response.completed" in seen


def test_a_byte_order_mark_hides_nothing(upstream, clients):
    stream = "\ufeff".encode() + BEGUN + DONE + COMPLETED
    for chunks in ([stream], [bytes([byte]) for byte in stream]):
        upstream.script(Reply(chunks))
        assert b"user-9" not in whole(clients[False].stream())


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_stored_does_not_tell(upstream, clients, stream, shown):
    """Not even to a key that shows the account: it may cease to, and the response stays."""
    upstream.script(Reply(STREAMS["events"]))
    exchange = clients[shown].create("Hi", stream=stream)
    made = exchange.events()[-1]["response"]["id"] if stream and exchange.body else exchange.json()["id"]
    stored = clients[shown].get(f"/v1/responses/{made}")
    assert stored.status == 200 and stored.json()["account_user"] is None
    replay = clients[shown].get(f"/v1/responses/{made}?stream=true")
    assert not [secret for secret in SECRETS if secret in whole(stored) + whole(replay)]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_refusals(upstream, clients, stream, shown):
    error = {"type": "used_up", "message": "Wait.", "plan": "gold", "resets_at": 5}
    content = json.dumps({"error": error, "status": 429}).encode()
    upstream.script(Reply([content], status=429, headers=[("content-type", "application/json"), *HEADERS]))
    exchange = clients[shown].create("Hi", stream=stream)
    seen = whole(exchange)
    assert exchange.status == 429 and exchange.json()["error"]["resets_at"] == 5 and b"x-account-turn: T" in seen
    assert [secret in seen for secret in (b"acct-9", b"gold", b"x-plan:")] == [shown] * 3


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize(
    "failure",
    [
        event(
            "response.failed", response=response("failed", error={"code": "used_up", "message": "m", "plan": "gold"})
        ),
        event("error", error={"code": "used_up", "message": "m", "plan": "gold"}),
        event("error", code="used_up", message="m", plan="gold"),
        event("error", code="used_up", message="m", headers={"X-Plan": "gold", "x-account-turn": "T"}),
    ],
    ids=["failed", "error", "flat", "headers"],
)
def test_failures_in_streams(upstream, clients, failure, shown):
    upstream.script(Reply([BEGUN, failure]))
    seen = whole(clients[shown].stream())
    assert (b"gold" in seen) == shown and b"used_up" in seen


def test_a_last_event_without_its_empty_line_is_looked_into(upstream, clients):
    last = event("response.completed", end=b"\n", response=response("completed"))
    upstream.script(Reply([BEGUN, DONE, LIMITS, last]))
    assert not [secret for secret in SECRETS if secret in whole(clients[False].stream())]


# ------------------------------------------------------------------------------------------------------- instructions
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stated", [None, "Mine."])
@pytest.mark.parametrize("upstream_says", ["Filler.", "Mine.", None])
def test_instructions_are_those_of_the_client(upstream, clients, stream, stated, upstream_says):
    told = [event(f"response.{kind}", response=response(status, instructions=upstream_says))
            for kind, status in (("created", "in_progress"), ("completed", "completed"))]  # fmt: skip
    upstream.script(Reply([told[0], DONE, told[1]]))
    exchange = clients[False].create("Hi", stream=stream, **({"instructions": stated} if stated else {}))
    responses = [one["response"] for one in exchange.events() if "response" in one] if stream else [exchange.json()]
    assert [one["instructions"] for one in responses] == [stated] * len(responses)
    stored = clients[False].get(f"/v1/responses/{responses[-1]['id']}").json()
    assert stored["instructions"] == stated and b"Filler." not in exchange.received


# --------------------------------------------------------------------------------------------------------------- keys
def test_the_key_is_chosen_listed_and_changed(gateway, upstream):
    def listed():
        (row,) = [row for row in json.loads(gateway.run("keys", "list", "--json").stdout) if row["name"] == "ann"]
        return row["shows_account"]

    def sees():
        upstream.script(Reply(STREAMS["events"]))
        return b"user-9" in whole(client.stream())

    client = ApiClient(gateway.url, gateway.run("keys", "create", "ann").stdout.strip())
    assert (listed(), sees()) == (False, False)
    assert gateway.run("keys", "change", "ann", "--shows-account").returncode == 0
    assert (listed(), sees()) == (True, True) and "shows the account" in gateway.run("keys", "list").stdout
    assert gateway.run("keys", "change", "ann", "--concurrent", "2").returncode == 0
    assert listed() is True
    assert gateway.run("keys", "change", "ann", "--clear", "shows-account").returncode == 0
    assert (listed(), sees()) == (False, False)


def test_the_key_is_chosen_by_the_admin_api(gateway):
    admin = ApiClient(gateway.url, "t" * 16)
    made = admin.post({"name": "ben", "shows_account": True}, "/admin/api/keys").json()
    assert made["shows_account"] is True
    for value in (False, True, None):
        exchange = admin.send("PATCH", "/admin/api/keys/ben", json.dumps({"shows_account": value}).encode())
        assert exchange.json()["shows_account"] is bool(value)
    refused = admin.send("PATCH", "/admin/api/keys/ben", b'{"shows_account": "yes"}')
    assert (refused.status, refused.json()["error"]["param"]) == (400, "shows_account")


def test_splitting_a_block_loses_nothing():
    block = b"data: 1\n\ndata: 2\r\n\r\n: x\n\ndata: 3"
    assert sse.split(block) == [b"data: 1\n\n", b"data: 2\r\n\r\n", b": x\n\n", b"data: 3"]
    assert sse.split(b"") == []


@pytest.mark.parametrize("shown", [True, False])
def test_a_background_response_never_shows_it(upstream, clients, shown):
    """Its events are stored, and the setting of a key may change meanwhile."""
    upstream.script(Reply(STREAMS["events"], headers=[("content-type", "text/event-stream"), *HEADERS]))
    exchange = clients[shown].create("Hi", stream=True, background=True)
    seen = whole(exchange)
    assert exchange.events()[-1]["type"] == "response.completed"
    assert not any(secret in seen for secret in (b"acct-9", b"user-9", b"x-account-id", b"account.limits"))
