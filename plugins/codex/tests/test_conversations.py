"""Whole conversations of clients that know nothing of Codex: what the backend sees of them, request by request."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from floway_codex.simulator import Simulator, compaction, custom_tool_call, function_call, reply, text

from floway_core.testing import ApiClient

from . import gateways

MODEL = "gpt-5.5"
TURN_STATE = "x-codex-turn-state"
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def running():
    with Simulator() as simulator, gateways.start(simulator, secret_key=gateways.SECRET_KEY) as gateway:
        gateways.import_account(gateway, simulator.new_account())
        yield simulator, gateway


@pytest.fixture
def backend(running):
    simulator, _ = running
    simulator.clear()
    yield simulator
    assert simulator.findings == []


@pytest.fixture
def gateway(running):
    return running[1]


@pytest.fixture
def sdk(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


def user(said):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}


def metadata(request):
    return json.loads(request.header("x-codex-turn-metadata"))


def column(backend, name):
    """One id of all dispatches: the number of the window for ``window``."""
    if name == "window":
        return [int(request.header("x-codex-window-id").rpartition(":")[2]) for request in backend.dispatches]
    if name in ("state", "cache key"):
        places = {"state": lambda one: one.header(TURN_STATE), "cache key": lambda one: one.body["prompt_cache_key"]}
        return [places[name](request) for request in backend.dispatches]
    return [metadata(request).get(name) for request in backend.dispatches]


def assert_one_conversation(backend, windows):
    for name in ("session_id", "thread_id", "installation_id", "cache key"):
        assert len(set(column(backend, name))) == 1, name
    assert column(backend, "window") == windows
    assert len(set(column(backend, "turn_id"))) == len(windows)
    assert column(backend, "request_kind") == ["turn", "turn", "turn", "compaction", "turn", "turn"]
    assert column(backend, "state") == [None] * len(windows)


# -------------------------------------------------------------------------------------------------------- five turns
def test_a_conversation_continued_by_id(backend, sdk):
    last = None
    for number in range(3):
        last = sdk.responses.create(model=MODEL, input=f"Say {number}", previous_response_id=last, instructions="Hi").id
    compacted = sdk.responses.compact(model=MODEL, previous_response_id=last)
    last = compacted.id
    for number in range(2):
        last = sdk.responses.create(model=MODEL, input=f"Say {number}", previous_response_id=last, instructions="Hi").id
    assert_one_conversation(backend, [0, 0, 0, 0, 1, 1])
    trigger = metadata(backend.dispatches[3])
    assert trigger["compaction"] == {
        "trigger": "manual", "reason": "user_requested", "implementation": "responses_compaction_v2",
        "phase": "standalone_turn", "strategy": "memento",
    }  # fmt: skip
    assert backend.dispatches[3].body["input"][-1] == {"type": "compaction_trigger"}
    assert [item["type"] for item in backend.dispatches[4].body["input"]] == ["message", "compaction", "message"]


def test_a_conversation_sent_whole_each_time(backend, sdk):
    history = []

    def turn(said):
        history.append(user(said))
        answer = sdk.responses.create(model=MODEL, input=history, instructions="Hi")
        history.extend(item.model_dump(exclude_none=True) for item in answer.output)

    for number in range(3):
        turn(f"Say {number}")
    compacted = sdk.responses.compact(model=MODEL, input=history, instructions="Hi")
    history[:] = [item.model_dump(exclude_none=True) for item in compacted.output]
    for number in range(2):
        turn(f"Say {number}")
    assert_one_conversation(backend, [0, 0, 0, 0, 1, 1])


def test_a_conversation_that_is_not_stored_keeps_its_session_from_its_beginning(backend, sdk):
    """RS-5, X-16: also where the first message is a text in one request and a list in the next."""
    history = [user("Say 0")]
    for number in range(3):
        given = history if number else "Say 0"
        answer = sdk.responses.create(model=MODEL, input=given, store=False, include=["reasoning.encrypted_content"])
        history += [*(item.model_dump(exclude_none=True) for item in answer.output), user(f"Say {number + 1}")]
    assert len(set(column(backend, "session_id"))) == len(set(column(backend, "cache key"))) == 1
    assert column(backend, "window") == [0, 0, 0]
    sdk.responses.create(model=MODEL, input="Say 0", instructions="Otherwise.", store=False)
    assert len(set(column(backend, "session_id"))) == 2


@pytest.mark.parametrize(
    "named, windows",
    [({"session-id": "mine"}, [0, 0, 1, 1]), ({"thread-id": "mine"}, [0, 0, 1, 1]), ({}, [0, 0, 0, 0])],
)
def test_after_a_compaction_a_named_thread_has_a_new_window_though_nothing_is_stored(backend, sdk, named, windows):
    """A thread that is derived from the beginning of the input is another one then."""
    history = [user("Say 0")]
    for given in ([], [{"type": "compaction_trigger"}], [user("On")], [user("And on")]):
        if given == [{"type": "compaction_trigger"}]:
            backend.script(reply(compaction()))
        answer = sdk.responses.create(model=MODEL, input=[*history, *given], store=False, extra_headers=named)
        output = [item.model_dump(exclude_none=True) for item in answer.output]
        history = output if output[0]["type"] == "compaction" else [*history, *given, *output]
    assert column(backend, "window") == windows
    assert len(set(column(backend, "thread_id"))) == (1 if named else 2)


def test_two_api_keys_never_share_a_session(backend, gateway):
    other = gateway.run("keys", "create", "other").stdout.split()[-1]
    for key in (gateway.key, other):
        assert ApiClient(gateway.url, key).create("Same question", model=MODEL).json()["status"] == "completed"
    assert len(set(column(backend, "session_id"))) == 2


def test_a_client_that_states_its_session_once_keeps_it(backend, sdk):
    stated = {"session-id": "mine", "thread-id": "my-thread"}
    first = sdk.responses.create(model=MODEL, input="One", extra_headers=stated)
    sdk.responses.create(model=MODEL, input="Two", previous_response_id=first.id)
    assert column(backend, "session_id") == ["mine", "mine"]
    assert column(backend, "thread_id") == ["my-thread", "my-thread"]


def test_a_client_request_id_is_passed_on_for_every_caller(backend, sdk):
    """TX-20; where none is stated, or nothing that fits into a header of the CLI, it is the thread."""
    stated = ["req-of-mine", None, "", "x" * 201]
    for value in stated:
        headers = {} if value is None else {"x-client-request-id": value}
        sdk.responses.create(model=MODEL, input="One", extra_headers=headers)
    threads = [request.header("thread-id") for request in backend.dispatches]
    assert [request.header("x-client-request-id") for request in backend.dispatches] == ["req-of-mine", *threads[1:]]


# -------------------------------------------------------------------------------------------------------------- turns
def test_a_tool_loop_by_id_is_one_turn(backend, sdk):
    """X-17: the turn state goes along as far as the turn does."""
    backend.script(
        reply(function_call("f", {}), custom_tool_call("g", "x"), headers={TURN_STATE: "TS-1"}),
        reply(function_call("f", {}), headers={TURN_STATE: "TS-2"}),
        reply(text("done"), headers={TURN_STATE: "TS-3"}),
        reply(text("next"), headers={TURN_STATE: "TS-4"}),
    )
    answer = sdk.responses.create(model=MODEL, input="Run it", tools=[FUNCTION])
    for _ in range(2):
        outputs = [{"type": f"{item.type}_output", "call_id": item.call_id, "output": "1"} for item in answer.output]
        answer = sdk.responses.create(model=MODEL, input=outputs, previous_response_id=answer.id, tools=[FUNCTION])
    sdk.responses.create(model=MODEL, input="Thanks", previous_response_id=answer.id)
    turns = column(backend, "turn_id")
    assert len(set(turns[:3])) == 1 and turns[3] not in turns[:3]
    assert len(set(column(backend, "turn_started_at_unix_ms")[:3])) == 1
    assert column(backend, "state") == [None, "TS-1", "TS-1", None]
    assert set(column(backend, "window")) == {0}


def test_a_tool_loop_that_keeps_naming_what_was_before_it_takes_no_older_turn_for_its_own(backend, sdk):
    """The AI SDK names one response in all its steps and sends along what has been said since."""
    backend.script(
        reply(text("one"), headers={TURN_STATE: "TS-1"}),
        reply(function_call("f", {}), headers={TURN_STATE: "TS-2"}),
        reply(text("done"), headers={TURN_STATE: "TS-3"}),
    )
    first = sdk.responses.create(model=MODEL, input="One").id
    said = [user("Run it")]
    called = sdk.responses.create(model=MODEL, input=said, previous_response_id=first, tools=[FUNCTION]).output[0]
    call = {"type": "function_call", "call_id": called.call_id, "name": "f", "arguments": called.arguments}
    said += [call, {"type": "function_call_output", "call_id": called.call_id, "output": "1"}]
    sdk.responses.create(model=MODEL, input=said, previous_response_id=first, tools=[FUNCTION])
    assert len(set(column(backend, "turn_id"))) == 3
    assert column(backend, "state") == [None, None, None]


def test_a_401_in_a_turn_changes_nothing_but_the_token(backend, sdk):
    """X-14"""
    first = sdk.responses.create(model=MODEL, input="One")
    backend.expire_access_tokens()
    sdk.responses.create(model=MODEL, input="Two", previous_response_id=first.id)
    refused, accepted = backend.dispatches[1:]
    assert (refused.status, accepted.status) == (401, 200)
    assert refused.body == accepted.body
    differing = {name for name, value in accepted.headers if refused.header(name) != value}
    assert differing == {"authorization"}


# --------------------------------------------------------------------------------------------------- the CLI's own loop
CLI = {
    "originator": "codex_exec",
    "user-agent": "codex_exec/0.142.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.142.0)",
}


def ask_as_cli(gateway, turn, state=None, thread="my-thread"):
    """One dispatch of a CLI: the turn state that it gets."""
    given = {"turn_id": turn, "thread_id": thread, "session_id": thread}
    stated = {"x-codex-turn-metadata": json.dumps({"turn_started_at_unix_ms": len(turn)})}
    exchange = ApiClient(gateway.url, gateway.key, {**CLI, **stated, **({TURN_STATE: state} if state else {})}).create(
        "Hi", model=MODEL, store=False, client_metadata=given
    )
    assert exchange.status == 200, exchange.body
    return exchange.headers.get(TURN_STATE)


def test_a_cli_gets_the_turn_state_and_gives_it_back(backend, gateway):
    backend.script(*(reply(text("x"), headers={TURN_STATE: f"TS-{number}"}) for number in range(3)))
    given = ask_as_cli(gateway, "first")
    ask_as_cli(gateway, "first", given)
    ask_as_cli(gateway, "second", given)  # a client that forgets to forget it
    assert column(backend, "state") == [None, "TS-0", None]
    assert column(backend, "turn_id") == ["first", "first", "second"]


@pytest.mark.parametrize("state", ["TS-0", "gAAAAABforged", "x" * 4000])
def test_a_forged_turn_state_goes_no_further(backend, gateway, state):
    ask_as_cli(gateway, "first", state)
    assert column(backend, "state") == [None]


def test_a_turn_state_stays_with_its_account(gateway, running):
    """X-17: the first account is out of quota, or gone; another one goes on with the turn."""
    simulator, _ = running
    simulator.clear()
    with gateways.start(simulator, secret_key=gateways.SECRET_KEY) as other:
        gateways.import_account(other, simulator.new_account("b@example.com"))
        elsewhere = ask_as_cli(other, "turn-b")
    simulator.clear()
    ask_as_cli(gateway, "turn-b", elsewhere)
    assert column(simulator, "state") == [None]


# -------------------------------------------------------------------------------------------------------------- forks
def test_forks_get_windows_of_their_own_even_when_they_race(backend, gateway, sdk):
    """RS-3, X-5"""
    first = sdk.responses.create(model=MODEL, input="Begin")

    def fork(number):
        caller = ApiClient(gateway.url, gateway.key)
        return caller.create(f"Fork {number}", model=MODEL, previous_response_id=first.id).json()["id"]

    with ThreadPoolExecutor(16) as pool:
        forks = list(pool.map(fork, range(16)))
    assert sorted(column(backend, "window")[1:]) == list(range(16))
    assert len(set(column(backend, "thread_id"))) == 1
    # Whatever becomes of a fork, it never gets into the window of another.
    sdk.responses.create(model=MODEL, input="On", previous_response_id=forks[0])
    compacted = sdk.responses.compact(model=MODEL, previous_response_id=forks[1])
    sdk.responses.create(model=MODEL, input="On", previous_response_id=compacted.id)
    sdk.responses.create(model=MODEL, input="Again", previous_response_id=forks[0])
    later = column(backend, "window")[17:]
    by_question = {request.body["input"][-1]["content"][0]["text"]: number
                   for request, number in zip(backend.dispatches, column(backend, "window"), strict=True)
                   if request.body["input"][-1].get("role") == "user"}  # fmt: skip
    assert later == [by_question["Fork 0"], by_question["Fork 1"], 16, 17]


def test_the_history_is_compacted_only_where_it_was(backend, sdk):
    """RS-4"""
    first = sdk.responses.create(model=MODEL, input="Begin")
    for _ in range(2):
        compacted = sdk.responses.compact(model=MODEL, previous_response_id=first.id)
        sdk.responses.create(model=MODEL, input="On", previous_response_id=compacted.id)
    assert column(backend, "window") == [0, 0, 1, 2, 3]


def test_a_client_that_counts_its_windows_is_believed(backend, sdk):
    """F1.5: also one whose history is not stored here."""
    for number in (0, 3):
        sdk.responses.create(
            model=MODEL, input="Hi", store=False, extra_headers={"thread-id": "t", "x-codex-window-id": f"t:{number}"}
        )
    assert column(backend, "window") == [0, 3]


# ------------------------------------------------------------------------------------------------------------ explain
def test_explain_says_where_each_id_comes_from(backend, gateway, sdk):
    backend.script(reply(function_call("f", {}), headers={TURN_STATE: "TS-secret"}), reply(compaction()))
    first = sdk.responses.create(model=MODEL, input="Begin", extra_headers={"session-id": "mine"})
    compacted = sdk.responses.compact(model=MODEL, previous_response_id=first.id)
    installation = metadata(backend.dispatches[0])["installation_id"]
    shown = explained(gateway, first.id)
    for line in ("session mine header: session-id", "thread mine session", "window mine:0 thread", "turn state kept",
                 f"installation {installation} account", "next window mine:0 the same"):  # fmt: skip
        assert line in shown
    for line in (
        "client another client, sent as the CLI transport",
        "header session-id header: session-id",
        "header thread-id session",
        "header user-agent profile and host",
        "header accept constant of the profile",
        "turn metadata sandbox host",
        "client_metadata x-codex-installation-id account",
        "body tool_choice client, else constant of the profile",
        "body input[].id (message user) client, else derived from thread and position",
    ):
        assert line in shown
    assert "next window mine:1 compacted" in explained(gateway, compacted.id)
    assert "TS-secret" not in shown and "gAAAA" not in shown
    assert "There is no stored response resp_none." in explained(gateway, "resp_none")
    machine = json.loads(explained(gateway, first.id, "--json"))
    assert machine["ids"]["session"] == {"value": "mine", "from": "header: session-id"} and machine["turn_state"]
    assert {"section": "header", "name": "session-id", "source": "header: session-id"} in machine["fields"]
    sent = dict(backend.dispatches[0].headers)
    assert {*sent} - {"host", "content-length"} <= {
        one["name"] for one in machine["fields"] if one["section"] == "header"
    }


def test_explain_of_a_cli_says_what_it_has_sent_itself(backend, gateway):
    agent = "codex_exec/0.142.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.142.0)"
    headers = {"originator": "codex_exec", "user-agent": agent}
    answer = ApiClient(gateway.url, gateway.key, headers).create("Hi", model=MODEL).json()
    shown = explained(gateway, answer["id"])
    for line in (
        f"client the CLI {agent} transport",
        "profile 0.142.0",
        "header user-agent client",
        "header version client's user",
    ):
        assert line in shown


def explained(gateway, *arguments):
    done = gateway.run("codex", "explain", *arguments)
    return " ".join((done.stdout + done.stderr).split())
