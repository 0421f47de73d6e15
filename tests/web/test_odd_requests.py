"""Odd, damaged and malicious requests: each gets an error in OpenAI's form, and the log stays correct."""

import gzip
import http.client
import json
import socket
import uuid
import zlib
from urllib.parse import quote, urlsplit

import pytest

from floway_core.testing import Reply, message_stream

PATIENCE = 60
GOOD = json.dumps({"model": "model-1", "input": "Hi"}).encode()


# ------------------------------------------------------------------------------------------------------- compression
def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "deflate, raw": raw_deflate}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("place", ["before", "behind", "alone"])
def test_empty_members_without_end_are_refused(ask, refused, fake_upstream, packed, place):
    pack = PACKED[packed]
    empty = pack(b"") * (400_000 // len(pack(b"")))
    body = {"before": empty + pack(GOOD), "behind": pack(GOOD) + empty, "alone": empty}[place]
    refused(ask.post(body, content_encoding=packed.partition(",")[0]), 400, "invalid_content_encoding")
    assert fake_upstream.requests == []


def test_members_without_end_that_hold_a_byte_each_are_refused(ask, refused):
    whole = GOOD.replace(b"Hi", b"x" * 5_000)
    body = b"".join(gzip.compress(whole[at : at + 1], 1) for at in range(len(whole)))
    refused(ask.post(body, content_encoding="gzip"), 400, "invalid_content_encoding")


def test_a_few_members_are_one_body(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    body = b"".join(gzip.compress(GOOD[at : at + 1]) for at in range(len(GOOD)))
    assert ask.post(body, content_encoding="gzip").status == 200
    assert json.loads(fake_upstream.requests[0].body)["model"] == "model-1"


# ------------------------------------------------------------------------------------------------------------- items
@pytest.mark.parametrize("type", [["x"], {"a": 1}, [], 5, True], ids=repr)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact"])
@pytest.mark.parametrize("store", [True, False])
def test_the_type_of_an_item_is_a_string(ask, refused, fake_upstream, type, path, store):
    body = {"model": "model-1", "store": store}
    refused(ask.post({**body, "input": [{"type": type}]}, path), 400, "invalid_type", "input[0].type")
    items = [{"role": "user", "content": "Hi"}, {"type": "message", "role": type}, {"id": "x", "type": type}]
    refused(ask.post({**body, "input": items}, path), 400, "invalid_type", "input[2].type")
    assert fake_upstream.requests == []


@pytest.mark.parametrize("odd", [["x"], {"a": 1}, 5, None], ids=repr)
@pytest.mark.parametrize("field", ["role", "id", "content", "status", "call_id", "encrypted_content", "summary"])
def test_no_other_field_of_an_item_is_the_gateways_business(ask, fake_upstream, odd, field):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.create([{"type": "message", "role": "user", "content": "Hi"} | {field: odd}])
    assert answer.status in (200, 400), answer.body
    if answer.status == 200:
        sent = json.loads(fake_upstream.requests[0].body)["input"][0]
        assert sent[field] == odd if odd is not None else field not in sent


# ----------------------------------------------------------------------------------------------------------- the log
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85", "\x0b", "\x1b[2K\x1b[1G"], ids=repr)
def test_a_path_cannot_forge_a_line_of_the_log(ask, gateway, refused, end):
    word = f"forged-{uuid.uuid4()}"
    answer = ask.get(quote(f"/nothing{end}{word} INFO floway.request POST /v1/responses 200"))
    refused(answer, 404, "not_found")
    (line,) = gateway.wait_for_log(word)
    assert "GET " in line and f" id={answer.headers['x-request-id']} " in line
    assert line.isprintable()


# --------------------------------------------------------------------------------------------------- damaged framing
DAMAGED = {
    "no size": b"zz\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "an empty size": b"\r\nabc\r\n0\r\n\r\n",
    "a chunk that is longer than its size": b"3\r\nabcdef\r\n0\r\n\r\n",
    "a good chunk, then none": b"%x\r\n%s\r\nzz\r\n\r\n" % (len(GOOD), GOOD),
}


@pytest.mark.parametrize("framed", DAMAGED)
def test_a_body_whose_chunks_are_damaged_is_refused(gateway, fake_upstream, framed):
    status, headers, body = said_to(gateway, "transfer-encoding: chunked", DAMAGED[framed])
    assert (status, headers.get_content_type()) == (400, "application/json")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert fake_upstream.requests == []


def test_a_body_that_ends_early_is_refused(gateway, fake_upstream):
    for framing, sent in (("transfer-encoding: chunked", b"5\r\nab"), (f"content-length: {len(GOOD)}", GOOD[:-1])):
        status, _, body = said_to(gateway, framing, sent, ends=True)
        assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    assert fake_upstream.requests == []


@pytest.mark.parametrize("line", ["content-length: x", "content-length: -1", "transfer-encoding: nonsense", "no colon"])
def test_a_damaged_head_is_refused_and_the_gateway_goes_on(ask, gateway, line):
    before = len(gateway.log)
    assert said_to(gateway, line, b"")[0] in (400, 501)
    assert ask.get("/v1/models").status == 200
    assert "Traceback" not in gateway.log[before:]


def said_to(gateway, line, body, ends=False):
    """Status, headers and body that the gateway answers to a head with ``line`` in it, and ``body`` behind it."""
    lines = ["POST /v1/responses HTTP/1.1", "host: gateway", f"authorization: Bearer {gateway.key}", line, "", ""]
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as client:
        client.sendall("\r\n".join(lines).encode() + body)
        if ends:
            client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        return answer.status, answer.headers, answer.read()
