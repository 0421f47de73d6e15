"""The provider over WebSockets: refusals, lost connections, and what is kept. The engine's part is played by the test."""

import json
import socket
import threading
from dataclasses import replace

import pytest
from floway_codex import plugin
from floway_codex.account import quota
from floway_codex.account.auth_file import import_account
from floway_codex.provider import CodexProvider
from floway_codex.simulator import Simulator, messages, refusal, reply, text
from floway_codex.websocket import transport

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest
from floway_core.errors import ClientDisconnected, GatewayError, UpstreamBroken, UpstreamTimeout
from floway_core.provider import ErrorResponse
from floway_core.storage import upstreams

from .conftest import NoClient, dispatch, open_services

CREATED = {"type": "response.created", "response": {"id": "resp_1"}}
DELTA = {"type": "response.output_text.delta", "delta": "Hello"}
THREAD = "11111111-1111-7111-8111-111111111111"
USER = {"role": "user", "content": "ping"}


@pytest.fixture
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture
def services(tmp_path, simulator):
    urls = {"FLOWAY_CODEX_BASE_URL": simulator.url, "FLOWAY_CODEX_AUTH_URL": simulator.url}
    opened = open_services(tmp_path, FLOWAY_CODEX_TRANSPORT="auto", **urls)
    yield opened
    opened.database.close_all()


@pytest.fixture
def account(simulator):
    return simulator.new_account()


@pytest.fixture
def upstream(services, account):
    return import_account(services, account)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits before reconnects, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(transport.WebSocketTransport, "_pause", lambda self, seconds, client: found.append(seconds))
    return found


@pytest.fixture
def ask(attempt):
    """Sends a request as the engine does: the status, and the body or the error it ends with."""

    def send(items=None, thread=THREAD, **body):
        headers = {"session-id": thread, "thread-id": thread}
        started = attempt({"model": "gpt-5.5", "input": items or [USER], **body}, headers)
        return drive(started)

    return send


def drive(started: AttemptContext) -> tuple[int, bytes]:
    plugin.on_attempt_start(started)
    for number in (1, 2, 3):
        ctx = dispatch(started, number)
        answer = started.provider.send(ctx)
        try:
            content = read_whole(answer.body)
        finally:
            answer.body.close()
        if 200 <= answer.status < 300:
            break
        if not started.provider.handle_error_response(ctx, ErrorResponse(answer.status, answer.headers, content)):
            break
    return answer.status, content


def read_whole(body) -> bytes:
    content = b""
    while data := body.read(5.0):
        content += data
    return content


def kinds(simulator) -> list[str]:
    """What the backend got: upgrades, warm-ups, whole inputs, increments and POSTs."""
    found = []
    for request in simulator.requests:
        if request.method == "GET" and request.header("sec-websocket-key"):
            found.append("upgrade")
        elif request.method == "WS-FRAME":
            increment = "increment" if "previous_response_id" in request.body else "whole"
            found.append("warm-up" if "generate" in request.body else increment)
        elif request.method == "POST" and "/codex/" in request.path:
            found.append("post")
    return found


STARTED = ["upgrade", "warm-up", "increment"]


# ------------------------------------------------------------------------------------------------------- conversations
def test_a_conversation_shares_a_connection_and_sends_what_is_new(ask, simulator):
    history = [USER]
    for number in range(3):
        status, content = ask(history)
        assert status == 200 and b"event: response.completed\ndata: {" in content
        history = [*history, *outputs(content), {"role": "user", "content": f"and {number}"}]
    assert kinds(simulator) == [*STARTED, "increment", "increment"]
    assert [len(frame.body["input"]) for frame in simulator.frames] == [0, 1, 1, 1]
    assert simulator.findings == []


def outputs(content: bytes) -> list[dict]:
    events = [json.loads(line[6:]) for line in content.decode().splitlines() if line.startswith("data: ")]
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


@pytest.mark.parametrize(
    "change",
    [
        {"instructions": "Be brief."},
        {"reasoning": {"effort": "high"}},
        {"text": {"format": {"type": "json_object"}}},
        {"tools": [{"type": "function", "name": "run", "parameters": {"type": "object"}}]},
    ],
)
def test_after_a_change_the_whole_input_goes_over_the_same_connection(ask, simulator, change):
    history = [USER]
    history = [*history, *outputs(ask(history)[1]), USER]
    assert ask(history, **change)[0] == 200
    assert kinds(simulator) == [*STARTED, "whole"]


def test_an_edited_answer_is_no_increment(ask, simulator):
    (said,) = outputs(ask()[1])
    edited = {**said, "content": [{**said["content"][0], "text": "something else"}]}
    assert ask([USER, edited, USER])[0] == 200
    assert ask([{"role": "user", "content": "another beginning"}, said, USER])[0] == 200
    assert kinds(simulator) == [*STARTED, "whole", "whole"]


def test_the_increments_add_up_to_what_posts_send(ask, simulator, services):
    over_http = CodexProvider(_with(services, codex_transport="http"))
    history = [USER]
    for number in range(6):
        call = {"type": "function_call", "call_id": f"call_{number}", "name": "run", "arguments": "{}"}
        simulator.script(reply(text(f"answer {number}", chunks=3)))
        _, content = ask(history)
        history = [*history, *outputs(content), call, {**call, "type": "function_call_output", "output": "x" * 50}, USER]
        history[-2].pop("name")
        history[-2].pop("arguments")
    assert ask(history)[0] == 200
    frame = simulator.frames[-1]
    post(over_http, services, history)
    (posted,) = simulator.dispatches
    assert "previous_response_id" in frame.body and len(frame.whole["input"]) == len(posted.body["input"])
    compared = zip(frame.whole["input"], posted.body["input"], strict=True)
    differing = [(there, here) for there, here in compared if there != here]
    # what the backend has said itself is not sent again, so it still has what clients leave out
    assert all(there["type"] == "message" and there["role"] == "assistant" for there, _ in differing)
    assert all(there["content"][0]["text"] == here["content"][0]["text"] for there, here in differing)


def post(over_http, services, history):
    (upstream,) = upstreams.all_rows(services.database)
    headers = {"session-id": THREAD, "thread-id": THREAD}
    body = {"model": "gpt-5.5", "input": history}
    request = ClientRequest("req_2", ApiKey("key_1", "test"), headers, body, True, NoClient())
    assert drive(AttemptContext("att_2", request, upstream, over_http, "gpt-5.5"))[0] == 200


def _with(services, **settings):
    return replace(services, settings=replace(services.settings, plugin={**services.settings.plugin, **settings}))


# ------------------------------------------------------------------------------------------------------------ upgrades
def test_426_means_post_at_once_and_is_remembered(ask, simulator, waits):
    simulator.websockets.accepts = False
    for thread in (THREAD, "22222222-2222-7222-8222-222222222222"):
        assert ask(thread=thread)[0] == 200
    assert kinds(simulator) == ["upgrade", "post", "post"] and waits == []


def test_a_refused_upgrade_is_tried_again_and_then_a_post_is_sent(ask, simulator, waits):
    simulator.websockets.refusals, simulator.websockets.refuses_for_good = [403], True
    assert ask()[0] == 200
    assert kinds(simulator) == ["upgrade"] * 7 + ["post"]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.5, 3.2]
    assert ask(thread="22222222-2222-7222-8222-222222222222")[0] == 200
    assert kinds(simulator)[8:] == ["post"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_after_a_passing_refusal_there_is_no_warm_up(ask, simulator, waits, status):
    simulator.websockets.refusals = [status]
    assert ask()[0] == 200
    assert kinds(simulator) == ["upgrade", "upgrade", "whole"] and waits == [0.1]


def test_a_401_to_the_upgrade_renews_the_token(ask, simulator, waits):
    simulator.expire_access_tokens()
    assert ask()[0] == 200
    assert simulator.refreshes == 1 and kinds(simulator) == ["upgrade", "upgrade", "whole"]
    tokens = {upgrade.header("authorization") for upgrade in simulator.upgrades}
    assert len(tokens) == 2


def test_an_upgrade_without_an_answer_means_post(ask, simulator, monkeypatch):
    monkeypatch.setattr(transport, "UPGRADE_TIMEOUT_SECONDS", 0.05)
    simulator.websockets.ignores = True
    assert ask()[0] == 200 and ask()[0] == 200
    assert kinds(simulator) == ["upgrade", "post", "post"]


def test_a_proxy_that_knows_http_only_means_post(ask, simulator, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", simulator.url)
    monkeypatch.setenv("http_proxy", simulator.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    ask()
    assert "upgrade" not in kinds(simulator)


def test_websocket_only_means_no_post(attempt, simulator, services, upstream):
    simulator.websockets.accepts = False
    provider = CodexProvider(_with(services, codex_transport="websocket"))
    started = attempt()
    started.provider = provider
    with pytest.raises(GatewayError, match="426 to the upgrade") as error:
        drive(started)
    assert error.value.status == 502 and kinds(simulator) == ["upgrade"]


# ------------------------------------------------------------------------------------------------------------- refusals
LIMIT_REACHED = {"type": "usage_limit_reached", "message": "used up", "resets_at": 4_000_000_000}


@pytest.mark.parametrize(
    "status, error, headers",
    [
        (400, {"type": "invalid_request_error", "code": "invalid_value", "message": "m", "param": "input"}, {}),
        (400, {"type": "invalid_request_error", "code": "invalid_encrypted_content", "message": "m"}, {}),
        (429, {"type": "rate_limit_exceeded", "code": "rate_limit_exceeded", "message": "m"}, {"Retry-After": "1"}),
        (429, LIMIT_REACHED, {"x-codex-primary-used-percent": "100"}),
        (500, {"type": "server_error", "code": None, "message": "m"}, {}),
        (503, {"type": "server_error", "code": "server_is_overloaded", "message": "m"}, {"retry-after": "7"}),
    ],
)
def test_an_error_event_is_the_answer_over_http(attempt, simulator, status, error, headers):
    event = {"type": "error", "status": status, "error": error, "headers": headers}
    simulator.script(messages(CREATED, event))
    started = attempt()
    plugin.on_attempt_start(started)
    answer = started.provider.send(dispatch(started))
    assert (answer.status, json.loads(read_whole(answer.body))) == (status, {"error": error})
    assert {name.lower(): value for name, value in headers.items()}.items() <= dict(answer.headers).items()
    answer.body.close()
    assert drive(started)[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]  # the connection was dropped, as the CLI does


def test_a_used_up_quota_is_noted(ask, simulator, services, upstream, account):
    simulator.use_up_quota(account["tokens"]["account_id"])
    status, content = ask()
    assert (status, json.loads(content)["error"]["type"]) == (429, "usage_limit_reached")
    assert quota.read_limits(services, upstream.id)[0]["refused_because"] == "usage_limit_reached"


def test_a_401_in_an_event_renews_the_token(ask, simulator, waits):
    other = "22222222-2222-7222-8222-222222222222"
    assert ask()[0] == ask(thread=other)[0] == 200
    simulator.expire_access_tokens()
    assert ask()[0] == 200
    assert simulator.refreshes == 1
    assert kinds(simulator)[6:] == ["whole", "upgrade", "whole"]
    assert ask(thread=other)[0] == 200  # its connection has the old token, too, but there is a new one already
    assert simulator.refreshes == 1


@pytest.mark.parametrize("code", ["previous_response_not_found", "websocket_connection_limit_reached"])
def test_errors_of_the_connection_are_mended_with_a_new_one(ask, simulator, waits, code):
    history = [USER, *outputs(ask()[1]), USER]
    simulator.script(messages({"type": "error", "status": 400, "error": {"code": code, "message": "m"}}))
    assert ask(history)[0] == 200
    assert kinds(simulator) == [*STARTED, "increment", "upgrade", "whole"] and waits == [0.2]


def test_an_error_without_a_status_reaches_the_client(ask, simulator):
    simulator.script(messages(CREATED, {"type": "error", "error": {"message": "odd"}}, then="cut"))
    with pytest.raises(UpstreamBroken):
        ask()


def test_an_error_behind_content_is_an_event_without_its_headers(ask, simulator):
    event = {"type": "error", "status": 500, "error": {"message": "late"}, "headers": {"x-codex-plan-type": "pro"}}
    simulator.script(messages(CREATED, DELTA, event))
    status, content = ask()
    assert status == 200 and b'event: error\ndata: {"type":"error","status":500' in content
    assert b"plan" not in content
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


# ---------------------------------------------------------------------------------------------------- lost connections
@pytest.mark.parametrize("then", ["cut", 1000, 1012])
def test_a_connection_lost_before_content_is_one_more_request(ask, simulator, waits, then):
    simulator.script(messages(CREATED, then=then))
    status, content = ask()
    assert status == 200 and content.count(b"event: response.created") == 1
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"] and waits == [0.2]


@pytest.mark.parametrize("then", ["cut", 1000, 1012])
def test_a_connection_lost_behind_content_is_a_cut_answer(ask, simulator, waits, then):
    simulator.script(messages(CREATED, DELTA, then=then))
    with pytest.raises(UpstreamBroken, match="in the middle of its answer"):
        ask()
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"] and waits == []


def test_after_five_reconnects_a_post_is_sent(ask, simulator, waits):
    simulator.script(*[messages(CREATED, then="cut") for _ in range(6)])
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, *["upgrade", "whole"] * 5, "post"]
    assert waits == [0.2, 0.4, 0.8, 1.5, 3.2]


@pytest.mark.parametrize("raw", [b"\xff" * 40, b"\x81\x7f" + b"\xff" * 8, b"\x83\x00", b"\xf1\x00"])
def test_bytes_that_are_no_frames_are_a_lost_connection(ask, simulator, waits, raw):
    simulator.script(messages(CREATED, raw=raw))
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


def test_messages_that_are_no_events_are_ignored(ask, simulator):
    completed = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}
    simulator.script(messages(b"no JSON", b"[1]", b'{"type":7}', b'"text"', b"{}", CREATED, DELTA, completed))
    status, content = ask()
    assert status == 200 and content.count(b"event: ") == 3


def test_line_breaks_between_tokens_do_not_break_the_stream(ask, simulator):
    completed = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}
    simulator.script(messages(json.dumps(DELTA, indent=1).encode(), json.dumps(completed, indent=1).encode()))
    _, content = ask()
    assert [block.count(b"\n") for block in content.split(b"\n\n")] == [1, 1, 0]


def test_a_close_frame_1009_means_post_at_once(ask, simulator, waits):
    simulator.script(messages(then=1009))
    assert ask()[0] == 200
    assert kinds(simulator) == [*STARTED, "post"] and waits == []


def test_a_message_that_is_longer_than_announced_is_a_post(ask, simulator, waits):
    simulator.websockets.max_message_bytes = 5000
    assert ask()[0] == 200
    assert ask([USER, *[{"role": "user", "content": "x" * 5000}]])[0] == 200
    assert kinds(simulator) == [*STARTED, "post"]
    assert ask()[0] == 200
    assert kinds(simulator)[4:] == ["upgrade", "whole"]


@pytest.mark.parametrize("fragment_bytes, compresses", [(None, True), (None, False), (7, True), (7, False), (60_000, True)])
def test_huge_and_fragmented_messages(ask, simulator, fragment_bytes, compresses):
    simulator.websockets.fragment_bytes, simulator.websockets.compresses = fragment_bytes, compresses
    said = "0123456789" * (200_000 if fragment_bytes != 7 else 500)
    simulator.script(reply(text(said, chunks=3)))
    status, content = ask([{"role": "user", "content": said}])
    (item,) = outputs(content)
    assert status == 200 and item["content"][0]["text"] == said
    assert simulator.frames[-1].body["input"][0]["content"][0]["text"] == said


def test_compressed_frames_are_short(ask, simulator):
    said = [{"role": "user", "content": "the same again " * 10_000}]
    ask(said)
    assert simulator.websockets.bytes_received < 10_000


def test_a_backend_that_never_answers_is_a_timeout(attempt, simulator, services):
    simulator.script(messages(then="hang"))
    provider = CodexProvider(_replaced(services, first_byte_timeout=0.1))
    started = attempt()
    started.provider = provider
    with pytest.raises(UpstreamTimeout):
        drive(started)
    assert simulator.frames[-1].client_gone.wait(5)


def _replaced(services, **settings):
    return replace(services, settings=replace(services.settings, **settings))


# ------------------------------------------------------------------------------------------------ clients and sharing
def test_a_client_that_leaves_drops_the_connection(attempt, simulator):
    simulator.script(messages(CREATED, DELTA, then="hang"))
    started = attempt()
    plugin.on_attempt_start(started)
    answer = started.provider.send(dispatch(started))
    assert b"Hello" in answer.body.read(5.0)
    answer.body.close()
    assert simulator.frames[-1].client_gone.wait(5)
    assert drive(started)[0] == 200
    assert kinds(simulator) == [*STARTED, "upgrade", "whole"]


def test_a_client_that_leaves_before_the_answer_ends_the_wait(attempt, simulator):
    ours, theirs = socket.socketpair()
    started = attempt()

    class Leaving(NoClient):
        def fileno(self):
            return ours.fileno()

        def is_closed(self):
            return True

    started.request = ClientRequest("req_1", started.request.api_key, {}, started.request.body, True, Leaving())
    simulator.script(messages(CREATED, then="hang"))
    plugin.on_attempt_start(started)
    threading.Timer(0.1, theirs.close).start()
    with pytest.raises(ClientDisconnected):
        started.provider.send(dispatch(started))
    ours.close()


def test_two_requests_of_a_thread_at_once_have_connections_of_their_own(ask, simulator):
    assert ask()[0] == 200
    answers = []
    with simulator.hold_responses():
        threads = [threading.Thread(target=lambda: answers.append(ask()[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        simulator.wait_for_requests(len(simulator.requests) + 2)
    for thread in threads:
        thread.join()
    assert answers == [200, 200] and len(simulator.upgrades) == 2
    assert ask()[0] == 200 and len(simulator.upgrades) == 2


def test_keys_accounts_and_clients_do_not_share_connections(ask, attempt, simulator):
    assert ask()[0] == 200
    for key, agent in (("key_2", None), ("key_1", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color")):
        headers = {"session-id": THREAD, "thread-id": THREAD} | ({"originator": "codex_exec", "user-agent": agent} if agent else {})
        started = attempt({"model": "gpt-5.5", "input": [{"type": "message", **USER}]}, headers)
        request = started.request
        started.request = ClientRequest("r", ApiKey(key, "k"), request.headers, request.body, True, NoClient())
        drive(started)
    assert len(simulator.upgrades) == 3


def test_the_limits_in_an_event_are_stored(ask, simulator, services, upstream):
    assert ask()[0] == 200
    (limit,) = quota.read_limits(services, upstream.id)
    assert limit["plan"] == "pro"
    event = {"type": "codex.rate_limits", "plan_type": "plus", "rate_limits": {"primary": {"used_percent": 77}}}
    completed = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}
    simulator.script(messages(event, CREATED, DELTA, completed))
    assert ask()[0] == 200
    (limit,) = quota.read_limits(services, upstream.id)
    assert (limit["plan"], limit["primary"]["used_percent"]) == ("plus", 77)
