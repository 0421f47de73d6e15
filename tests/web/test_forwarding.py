"""Paths of other APIs that a provider forwards: routing, limits and usage as for responses, bytes as they are."""

import http.client
import json
from pathlib import Path

import pytest

from floway_core.storage import keys
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway, Step, write_plugin

from ..support.stored_upstreams import add_upstreams

PLUGIN = (Path(__file__).parents[1] / "support/relayer_plugin.py").read_text()

JSON = [("content-type", "application/json")]
VECTORS = b'{ "data" : [1.0, 2],\n "usage": {"prompt_tokens": 8, "total_tokens": 8}}'


def answer(content=VECTORS, status=200, headers=JSON, **options):
    return Reply([content], status, headers, **options)


@pytest.fixture(scope="module")
def upstreams_served():
    with FakeUpstream() as first, FakeUpstream() as second, FakeUpstream() as third:
        yield first, second, third


@pytest.fixture
def served(upstreams_served):
    for upstream in upstreams_served:
        upstream.forget()
    return upstreams_served


@pytest.fixture(scope="module")
def relaying(tmp_path_factory, upstreams_served):
    folder = tmp_path_factory.mktemp("relayer")
    write_plugin(folder, "relayer", PLUGIN)
    urls = dict(zip(("relayer_first", "relayer_second", "relayer_third"), upstreams_served, strict=True))
    settings = {name: upstream.url for name, upstream in urls.items()}
    settings |= {"metrics": "open", "log_format": "json", "client_timeout": "5"}
    with RunningGateway(settings, plugin_folders=[folder]) as gateway:
        add_upstreams(gateway, first="relayer", second="relayer", third="other_relayer")
        yield gateway


@pytest.fixture
def caller(relaying):
    return ApiClient(relaying.url, relaying.key)


@pytest.fixture
def new_key(relaying):
    """Makes a client with a key of its own."""
    database = connect(f"sqlite:///{relaying.database}")
    names = iter(range(100))

    def make(**options):
        name = f"{id(options)}-{next(names)}"
        client = ApiClient(relaying.url, keys.create(database, name, options))
        client.spent = lambda: keys.find(database, name).spent
        return client

    yield make
    database.close_all()


def logged(relaying, exchange):
    (line,) = relaying.wait_for_log(exchange.headers["x-request-id"])
    return json.loads(line)


def test_only_a_key_that_shows_the_account_gets_what_describes_it(new_key, served, refused):
    served[0].script(answer(b'{"plan": "large"}'))
    refused(new_key().get("/v1/account"), 403, "account_hidden")
    assert served[0].requests == []
    assert new_key(shows_account=True).get("/v1/account").body == b'{"plan": "large"}'


def test_a_body_without_a_content_type_is_json(caller, served):
    served[0].script(answer())
    assert caller.send("POST", "/v1/vectors", b'{"model": "small"}', {"content-type": None}).status == 200


def test_a_budget_knows_forwarded_requests(new_key, served, refused):
    """The models here have no price."""
    client = new_key(usd_per_day=1)
    for answered in (client.post({"model": "small", "input": "x"}, "/v1/vectors"), client.get("/v1/report")):
        refused(answered, 403, "price_unknown", "model")
    served[0].script(answer())
    client = new_key(usd_per_day=1, allows_unpriced=True)
    assert client.post({"model": "small", "input": "x"}, "/v1/vectors").body == VECTORS
    assert client.spent().unpriced_requests == 1


def form(*fields, boundary=b"XX"):
    """A form. A field is (name, value), or (name, value, filename)."""
    parts = []
    for name, value, *file in fields:
        more = f'; filename="{file[0]}"\r\nContent-Type: audio/mpeg' if file else ""
        head = f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        parts.append(b"--" + boundary + b"\r\n" + head + value + b"\r\n")
    return b"".join(parts) + b"--" + boundary + b"--\r\n"


FORM = {"content_type": "multipart/form-data; boundary=XX"}


@pytest.mark.parametrize("path", ["/v1/vectors", "/vectors", "/v1/vectors/"])
def test_bytes_pass_as_they_are(relaying, caller, served, path):
    headers = [("Content-Type", "application/json; odd=1"), ("x-theirs", "a"), ("set-cookie", "x"), ("server", "them")]
    served[0].script(answer(headers=headers))
    body = b'{ "model" : "small", "input": ["\\u00e9", 1.50, 123456789012345678901234567890] }'
    exchange = caller.post(body, path, accept="application/json", x_secret="theirs", cookie="theirs")
    assert (exchange.status, exchange.body) == (200, VECTORS)
    assert exchange.headers["content-type"] == "application/json; odd=1" and exchange.headers["x-theirs"] == "a"
    assert exchange.headers["set-cookie"] is None and exchange.headers["server"] != "them"
    (sent,) = served[0].requests
    assert (sent.method, sent.path, sent.body) == ("POST", "/vectors", body)
    assert [name.lower() for name, _ in sent.headers] == ["content-type", "accept", "host", "content-length"]
    line = logged(relaying, exchange)
    told = {name: line[name] for name in ("key", "model", "upstream", "outcome", "input_tokens", "output_tokens")}
    assert told == {
        "key": "test", "model": "small", "upstream": "first", "outcome": "completed",
        "input_tokens": 8, "output_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_every_framing(caller, served, framing):
    content = bytes(range(256)) * 5000
    headers = [("content-type", "audio/mpeg"), ("content-disposition", 'attachment; filename="a.mp3"')]
    served[0].script(answer(content, headers=headers, framing=framing))
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    assert exchange.body == content and exchange.headers["content-type"] == "audio/mpeg"
    assert exchange.headers["content-disposition"] == headers[1][1]
    assert (exchange.headers["content-length"] is not None) == (framing == "length")


def test_the_upstreams_name_of_the_model_in_json(caller, served):
    served[0].script(answer())
    assert caller.post({"model": "large", "input": "x"}, "/v1/vectors").status == 200
    assert json.loads(served[0].requests[0].body) == {"model": "their-large", "input": "x"}


FIELDS = [("file", b"\r\n--XXX\r\n--X\0model", "a.mp3"), ("model", b"small", "model.txt"), ("prompt", b"")]


@pytest.mark.parametrize("place", range(4))
def test_the_upstreams_name_of_the_model_in_a_form(caller, served, place):
    served[0].script(answer(b"text", headers=[("content-type", "text/plain")]))
    fields = [*FIELDS[:place], ("model", b"large"), *FIELDS[place:]]
    assert caller.post(form(*fields), "/v1/sounds/texts?x=1&y=%C3%A9", **FORM).body == b"text"
    (sent,) = served[0].requests
    assert sent.body == form(*FIELDS[:place], ("model", b"their-large"), *FIELDS[place:])
    assert sent.path == "/sounds/texts?x=1&y=%C3%A9" and sent.header("content-type") == FORM["content_type"]


def test_aliases_and_prefixes(relaying, caller, served):
    for command in (("aliases", "set", "vectors-alias", "large"), ("upstreams", "prefix", "third", "them")):
        done = relaying.run(*command)
        assert done.returncode == 0, done.stderr
    try:
        served[0].script(answer(), answer())
        served[2].script(answer())
        assert caller.post({"model": "vectors-alias"}, "/v1/vectors").status == 200
        assert caller.post(form(("model", b"vectors-alias")), "/v1/sounds/texts", **FORM).status == 200
        assert caller.post({"model": "them/small"}, "/v1/vectors").status == 200
        assert served[0].requests[0].body == b'{"model":"their-large"}'
        assert served[0].requests[1].body == form(("model", b"their-large"))
        assert served[2].requests[0].body == b'{"model":"small"}'
    finally:
        relaying.run("upstreams", "prefix", "third", "")


def test_a_model_that_the_api_has_by_default(caller, served):
    served[1].script(answer(), answer())
    assert caller.post(b'{"input": 1.0}', "/v1/notices").status == 200
    assert caller.post(form(("input", b"x")), "/v1/notices", **FORM).status == 200
    assert [request.body for request in served[1].requests] == [b'{"input": 1.0}', form(("input", b"x"))]


def test_a_path_without_a_model(caller, served, relaying):
    served[0].script(answer())
    exchange = caller.get("/v1/report?days=3&key=x")
    assert exchange.body == VECTORS
    (sent,) = served[0].requests
    assert (sent.method, sent.path, sent.body) == ("GET", "/report?days=3&key=x", b"")
    assert logged(relaying, exchange)["upstream"] == "first"


def test_a_stream_reaches_the_client_as_it_comes(relaying, caller, served):
    first, last = b"data: 1\n\n", b'data: {"usage": {"input_tokens": 3, "output_tokens": 4}}\n\ndata: [DONE]\n\n'
    served[0].script(Reply([first, Step.HOLD, last], headers=[("content-type", "text/event-stream")]))
    exchange = caller.post({"model": "small", "stream": True}, "/v1/vectors")
    exchange.read_until(first)
    served[0].release.set()
    assert exchange.body == first + last
    line = logged(relaying, exchange)
    assert (line["input_tokens"], line["output_tokens"], line["outcome"]) == (3, 4, "completed")
    assert line["first_byte_ms"] is not None


def test_idle_streams_need_no_thread(relaying, caller, served):
    replies = [Reply([b"begin", Step.HOLD, b"end"], headers=JSON) for _ in range(40)]
    served[0].script(*replies)
    running = []
    for _ in replies:  # one after another: all at once would need threads until they have begun
        running.append(caller.post({"model": "small"}, "/v1/vectors"))
        running[-1].read_until(b"begin")
    assert sum(int(_status(pid, "Threads")) for pid in relaying.workers) < len(replies)
    served[0].release.set()
    assert {exchange.body for exchange in running} == {b"beginend"}


def _status(pid, name):
    with open(f"/proc/{pid}/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_an_answer_that_breaks_off_is_seen_to(relaying, caller, served, framing):
    headers = [*JSON, ("content-length", "1000")] if framing == "length" else JSON
    served[0].script(Reply([b"begin", Step.CUT], headers=headers, framing=framing))
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    exchange.read_until(b"begin")
    if framing == "length":
        body = exchange.body
        assert exchange.headers["content-length"] == "1000" and body == b"begin"
    else:
        with pytest.raises(http.client.IncompleteRead):
            exchange.body  # noqa: B018
    line = logged(relaying, exchange)
    assert (line["outcome"], line["error"]) == ("failed", "upstream_disconnected")


def test_a_client_that_hangs_up_ends_it_upstream(relaying, caller, served):
    served[0].script(Reply([b"begin", Step.HOLD], headers=JSON))
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    exchange.read_until(b"begin")
    exchange.hang_up()
    assert served[0].requests[0].peer_gone.wait(60)
    assert logged(relaying, exchange)["outcome"] == "cut"


def test_the_next_upstream_is_tried(caller, served):
    served[0].script(answer(b"{}", 500))
    served[1].script(answer())
    assert caller.post({"model": "small"}, "/v1/vectors").body == VECTORS
    served[0].script(answer(b"{}", 429))  # another account of the same kind is not tried
    served[2].script(answer())
    assert caller.post({"model": "small"}, "/v1/vectors").body == VECTORS
    assert [len(upstream.requests) for upstream in served] == [2, 1, 1]


def test_a_refusal_is_relayed(caller, served, refused):
    content = b'{"error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "odd"}}'
    served[0].script(answer(content, 400))
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    assert (exchange.status, exchange.body) == (400, content)
    served[0].script(answer(b"{}", 401), answer())  # the provider renews something and sends it again
    assert caller.post({"model": "small"}, "/v1/vectors").status == 200
    served[0].script(answer(b"{}", 401), answer(b"{}", 401))
    served[2].script(answer(b"{}", 403), answer(b"{}", 403))
    refused(caller.post({"model": "small"}, "/v1/vectors"), 502, "upstream_account_refused")


BAD = [
    (b"", {}, 400, "missing_required_parameter", "model"),
    (b"{}", {}, 400, "missing_required_parameter", "model"),
    (b'{"model": ""}', {}, 400, "missing_required_parameter", "model"),
    (b'{"model": null}', {}, 400, "missing_required_parameter", "model"),
    (b'{"model": ["small"]}', {}, 400, "invalid_type", "model"),
    (b"[]", {}, 400, "invalid_json", None),
    (b"{", {}, 400, "invalid_json", None),
    (b'{"model": "nothing"}', {}, 404, "model_not_found", "model"),
    (b'{"model": "\\ud83d\\u0000"}', {}, 404, "model_not_found", "model"),
    (b"model=small", {"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type", None),
    (b"small", {"content_type": "multipart/form-data"}, 415, "unsupported_content_type", None),
    (b"small", FORM, 400, "invalid_body", None),
    (b"--XX\r\n\r\n--XX--", FORM, 400, "invalid_body", None),
    (form(("model", b"small"))[:-6], FORM, 400, "invalid_body", None),
    (form(("model", b"small"), ("model", b"large")), FORM, 400, "invalid_body", None),
    (form(("model", b"\xff")), FORM, 400, "invalid_body", None),
    (form(("file", b"x", "a")), FORM, 400, "missing_required_parameter", "model"),
    (form(("model", b"small", "a")), FORM, 400, "missing_required_parameter", "model"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code", "param"), BAD)
def test_bad_bodies(caller, served, refused, body, headers, status, code, param):
    refused(caller.post(body, "/v1/sounds/texts", **headers), status, code, param)
    assert not any(upstream.requests for upstream in served)


def test_an_upstream_that_does_not_forward_the_path(caller, refused):
    message = refused(caller.post({"model": "other"}, "/v1/notices"), 404, "unsupported_endpoint", "model")
    assert message == "No upstream of the model other forwards POST /notices."
    refused(caller.post({"model": "small"}, "/v1/vectors", authorization=None), 401, "invalid_api_key")
    refused(caller.get("/v1/vectors"), 405, "method_not_allowed")
    refused(caller.post({}, "/v1/sounds"), 404, "not_found")


def test_what_a_key_may_use(new_key, served, refused):
    served[1].script(answer(), answer())
    refused(new_key(models=["large"]).post({"model": "small"}, "/v1/vectors"), 404, "model_not_found", "model")
    second = new_key(upstreams=["second"])
    assert second.post({"model": "small"}, "/v1/vectors").status == 200
    assert second.get("/v1/report").status == 200
    refused(new_key(upstreams=["third"]).get("/v1/report"), 404, "unsupported_endpoint")


def test_limits_of_a_key(new_key, served, refused):
    served[0].script(answer(), Reply([b"begin", Step.HOLD, b"end"], headers=JSON), answer())
    limited = new_key(tokens_per_day=8, requests_per_minute=10)
    exchange = limited.post({"model": "small"}, "/v1/vectors")
    assert exchange.status == 200 and exchange.headers["x-ratelimit-limit-requests"] == "10" and exchange.body
    refused(limited.post({"model": "small"}, "/v1/vectors"), 429, "rate_limit_exceeded", type="rate_limit_error")
    single = new_key(concurrent_requests=1)
    running = single.post({"model": "small"}, "/v1/vectors")
    running.read_until(b"begin")
    refused(single.post({"model": "small"}, "/v1/vectors"), 429, "rate_limit_exceeded", type="rate_limit_error")
    served[0].release.set()
    assert running.body == b"beginend"
    assert single.post({"model": "small"}, "/v1/vectors").status == 200


def test_usage_and_metrics(relaying, new_key, served, caller):
    served[0].script(answer())
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    assert exchange.body and logged(relaying, exchange)
    metrics = caller.get("/metrics").body.decode()
    assert 'floway_tokens_total{continued="no",kind="input",model="small",upstream="first"}' in metrics
    assert 'route="/v1/vectors"' in metrics


def test_they_are_described(relaying, caller):
    paths = caller.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/vectors"]) == {"post"} and set(paths["/report"]) == {"get"}
    described = paths["/v1/vectors"]["post"]
    assert described["tags"] == ["relayer"] and "security" not in described
    assert set(described["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    (row,) = json.loads(relaying.run("plugins", "--json").stdout)
    assert row["forwards"] == [
        "GET /v1/account",
        "GET /v1/report",
        "POST /v1/notices",
        "POST /v1/sounds/texts",
        "POST /v1/vectors",
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/responses", "which core serves already"),
        ("/a/<b>", "without variable parts"),
        ("a", "without variable parts"),
        ("/", "without variable parts"),
    ],
)
def test_a_path_that_cannot_be_forwarded(install, tmp_path, path, problem):
    write_plugin(tmp_path, "relayer", PLUGIN.replace('"/vectors"', f'"{path}"'))
    done = install(plugin_folders=[tmp_path]).run("serve", "--bind", "127.0.0.1:0")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "'relayer'" in line and problem in line


def test_a_large_body_streams_both_ways(caller, served):
    content = b"x" * 3_000_000
    served[0].script(answer(content, headers=[("content-type", "application/octet-stream")]))
    exchange = caller.post(form(("file", content, "a.bin"), ("model", b"small")), "/v1/sounds/texts", **FORM)
    assert exchange.body == content
    assert len(served[0].requests[0].body) > len(content)


def test_no_bytes_are_sent_for_a_head_alone(caller, served):
    served[0].script(answer(b"", headers=JSON))
    exchange = caller.post({"model": "small"}, "/v1/vectors")
    assert (exchange.status, exchange.body) == (200, b"")
