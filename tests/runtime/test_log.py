"""Log lines: one for each request, for people or for programs, without secrets, and nobody else writes into them."""

import json
import logging
import re
import socket
import sys
import time
from urllib.parse import quote, urlsplit

import pytest

from floway_core.runtime.log import HumanFormatter, JsonFormatter
from floway_core.testing import Reply, Step, failed_stream, items_stream, message_stream

PATIENCE = 60

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
USAGE = {
    "input_tokens": 70,
    "input_tokens_details": {"cached_tokens": 30},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 120,
}


@pytest.fixture
def ask_watched(call, watched):
    return call(watched)


def objects(gateway):
    """Every line that the gateway has written: each of them is a JSON object."""
    return [json.loads(line) for line in gateway.log.splitlines()]


def logged_by(gateway, answer):
    """The lines that were written of a request, once they have been."""
    return gateway.wait_for_log(answer.headers["x-request-id"])


def line_of(gateway, answer):
    """What was logged of a request, once it has been."""
    logged_by(gateway, answer)
    (line,) = [told for told in objects(gateway) if told.get("request_id") == answer.headers["x-request-id"]]
    return line


def test_a_stream_is_told_with_everything(ask_watched, watched, fake_upstream):
    fake_upstream.script(Reply(message_stream(usage=USAGE)))
    answer = ask_watched.stream("a thing that was said")
    assert answer.body
    line = line_of(watched, answer)
    assert re.fullmatch(MOMENT, line.pop("time"))
    assert 0 < line.pop("first_byte_ms") <= line.pop("duration_ms") < 60_000
    assert line == {
        "message": "POST /v1/responses 200",
        "level": "info",
        "logger": "floway.request",
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "path": "/v1/responses",
        "route": "/v1/responses",
        "dialect": "responses",
        "transport": "http",
        "status": 200,
        "key": "test",
        "model": "model-1",
        "upstream": "first",
        "attempts": 1,
        "dispatches": 1,
        "continued": False,
        "outcome": "completed",
        "error": None,
        "input_tokens": 70,
        "cached_tokens": 30,
        "output_tokens": 50,
        "reasoning_tokens": 20,
        "cost_usd": 0.00069,
    }


def test_attempts_and_dispatches_are_counted(ask_watched, watched, fake_upstream):
    ask_watched.headers["x-test-recover"] = "once"
    fake_upstream.script(Reply([b"{}"], 401), Reply([b"{}"], 500))
    answer = ask_watched.create(model="shared")
    assert answer.status == 200
    line = line_of(watched, answer)
    assert (line["attempts"], line["dispatches"], line["upstream"]) == (2, 3, "second")
    assert line["first_byte_ms"] is None


def test_a_continued_conversation_is_told(ask_watched, watched, fake_upstream):
    fake_upstream.script(*[Reply(message_stream())] * 2)
    first = ask_watched.create().json()
    answer = ask_watched.create(previous_response_id=first["id"])
    assert answer.status == 200
    assert line_of(watched, answer)["continued"] is True


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reply", "outcome", "error"),
    [
        (Reply(failed_stream("server_is_overloaded", "Busy.")), "failed", "server_is_overloaded"),
        (Reply(failed_stream(None, "No reason.")), "failed", "upstream_failed"),
        (Reply(message_stream()[:3]), "failed", "upstream_disconnected"),
        (Reply([b"{}"], 429), None, "upstream_refused"),
    ],
    ids=["failed", "without reason", "broken", "refused"],
)
def test_how_a_failure_ended(ask_watched, watched, fake_upstream, reply, outcome, error, stream):
    fake_upstream.script(reply)
    answer = ask_watched.create(stream=stream)
    assert answer.body
    line = line_of(watched, answer)
    assert (line["outcome"], line["upstream"], line["dispatches"]) == (outcome, "first", 1)
    assert line["error"] == error


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("told", "error"),
    [
        (items_stream([], usage=USAGE), "upstream_disconnected"),
        (failed_stream("context_length_exceeded", "Too long.", usage=USAGE), "context_length_exceeded"),
    ],
    ids=["empty", "failed"],
)
def test_what_a_compaction_has_used_that_came_to_nothing(ask_watched, watched, fake_upstream, told, error, stream):
    fake_upstream.script(Reply(told))
    answer = ask_watched.create([{"type": "compaction_trigger"}], stream=stream)
    assert answer.body
    line = line_of(watched, answer)
    assert (line["outcome"], line["error"]) == ("failed", error)
    assert (line["input_tokens"], line["output_tokens"]) == (70, 50)


def test_a_client_that_left_before_the_first_byte(ask_watched, watched, fake_upstream):
    fake_upstream.script(Reply([Step.HOLD, *message_stream()]))
    abandoned = ask_watched.create(model="org/model-3", stream=True)
    fake_upstream.wait_for_request(1)
    abandoned.hang_up()
    deadline = time.monotonic() + PATIENCE
    while not (found := [told for told in objects(watched) if told.get("model") == "org/model-3"]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert [told["first_byte_ms"] for told in found] == [None]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\x1b[2K"], ids=repr)
def test_what_a_client_chooses_forges_no_line(ask, gateway, ask_watched, watched, end):
    forged = f'x{end}2026-01-31T12:00:00.000Z INFO floway.request {{"forged": "yes"}}'
    for caller, server in ((ask, gateway), (ask_watched, watched)):
        before = len(server.log)
        answers = [caller.create(model=forged), caller.get(quote(f"/{forged}"))]
        ids = [answer.headers["x-request-id"] for answer in answers]
        for id in ids:
            server.wait_for_log(id)
        found = [line for line in server.log[before:].splitlines() if "forged" in line]
        assert len(found) == 2 and all(line.isprintable() for line in found)
        assert all(any(id in line for line in found) for id in ids)
    assert [json.loads(line)["status"] for line in found] == [404, 404]


def test_long_texts_of_clients_are_cut(ask_watched, watched):
    answer = ask_watched.create(model="m" * 5000)
    assert answer.status == 404
    assert line_of(watched, answer)["model"] == "m" * 100


SAID = "Planted-words-of-a-client"


def said_in_many_ways(ask):
    """Exchanges, each begun when the one before has ended, and the status that each should have."""
    body = {"model": "model-1", "input": SAID}
    yield ask.stream(SAID, instructions=SAID, user=SAID), 200
    yield ask.create(SAID), 400
    yield ask.create(SAID, model="shared"), 200
    yield ask.post(body, "/v1/responses?key=Planted-query"), 200
    yield ask.post({**body, "input": [SAID]}), 400
    yield ask.post(SAID.encode()), 400
    yield ask.get("/v1/models", authorization="Bearer Planted-key"), 401
    yield ask.get("/v1/models", authorization=None, x_api_key="Planted-key"), 401


@pytest.mark.parametrize("style", ["human", "json"])
def test_nothing_secret_and_nothing_said_is_told(call, gateway, watched, fake_upstream, style):
    server = watched if style == "json" else gateway
    fake_upstream.script(
        Reply(message_stream(text="Planted-answer")),
        Reply(failed_stream("invalid_prompt", "Planted-refusal")),
        Reply([b'{"error": {"message": "Planted-refusal"}}'], 500),
        Reply(message_stream(text="Planted-answer")),
    )
    ask = call(server)
    ask.headers |= {"cookie": "session=Planted-cookie", "x-anything": "Planted-header"}
    for answer, status in said_in_many_ways(ask):
        assert answer.body and answer.status == status
        logged_by(server, answer)
    assert not re.search("planted", server.log, re.IGNORECASE)
    assert server.key not in server.log
    assert b"lanted" not in call(watched).get("/metrics").body


def test_a_fault_is_one_line_with_its_traceback(ask_watched, watched):
    ask_watched.headers["x-test-raise"] = "on_attempt_start fault"
    answer = ask_watched.create()
    assert answer.status == 500
    attempt = f"Attempt {answer.headers['x-request-id']}.1"
    (fault,) = [line for line in objects(watched) if line["message"].startswith(attempt)]
    assert fault["level"] == "error" and "RuntimeError: a detail" in fault["exception"]


def test_the_server_and_its_start_speak_json_too(watched):
    start = [told["message"] for told in objects(watched) if told["logger"] == "floway"]
    assert start[0].endswith(f"listens on {watched.url}")
    assert any(message.startswith("missing: ") for message in start)


def test_a_traceback_for_people_is_indented():
    try:
        raise ValueError("one\n2026-01-31T12:00:00.000Z INFO floway.request forged\x1b[2K")
    except ValueError:
        told = sys.exc_info()
    record = logging.LogRecord("floway", logging.ERROR, "", 1, "It %s", ("failed\nbadly",), told)
    first, *rest = HumanFormatter().format(record).splitlines()
    assert re.fullmatch(MOMENT + r" ERROR floway It failed\\nbadly", first)
    assert rest and all(line.startswith("    ") and line.isprintable() for line in rest)
    assert json.loads(JsonFormatter().format(record))["exception"].endswith("forged\x1b[2K")


def test_an_unknown_format_keeps_it_from_starting(install):
    done = install({"log_format": "xml"}).run("config")
    assert done.returncode == 1
    assert "FLOWAY_LOG_FORMAT" in done.stderr and "human or json" in done.stderr


# --------------------------------------------------------------------------------------------------------- request ids
def test_every_reply_has_a_request_id_that_stands_in_the_log(ask, gateway):
    ask.headers["x-request-id"] = "chosen-by-the-client"
    answers = [
        ask.get("/healthz"),
        ask.get("/readyz"),
        ask.get("/metrics"),
        ask.get("/admin/api/keys"),
        ask.get("/nowhere"),
        ask.send("PUT", "/v1/responses"),
        ask.send("HEAD", "/healthz"),
        ask.send("OPTIONS", "/v1/responses"),
        ask.get("/v1/responses"),
        ask.get("/v1/models", authorization=None),
        ask.post(b"no json"),
        ask.post(b"x" * 2**21),
        ask.post(b"x", content_encoding="rot13"),
    ]
    statuses = [200, 200, 404, 404, 404, 405, 200, 200, 426, 401, 400, 413, 415]
    assert [answer.status for answer in answers] == statuses
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers) and all(gateway.wait_for_log(f" id={id} ") for id in ids)
    assert "chosen-by-the-client" not in gateway.log


@pytest.mark.parametrize("stream", [False, True])
def test_the_id_of_a_response_tells_that_of_its_request(ask, fake_upstream, stream):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.stream() if stream else ask.create()
    assert f'"resp_{answer.headers["x-request-id"].replace("-", "")}"' in answer.body.decode()


def test_what_is_no_http_gets_one_too(gateway):
    host, port = urlsplit(gateway.url).netloc.split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        answer = connection.makefile("rb").read().decode()
    (request_id,) = re.findall(r"(?i)^x-request-id: (\S+)", answer, re.MULTILINE)
    assert gateway.wait_for_log(f"Refused request {request_id}")
