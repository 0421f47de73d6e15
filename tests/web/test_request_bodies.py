"""Request bodies: size, compression, JSON."""

import gzip
import json
import zlib

import pytest
import zstandard

from floway_core.testing import Reply, message_stream

BODY = {"model": "model-1", "input": [{"role": "user", "content": "Grüße " * 50}]}
GOOD = json.dumps(BODY, ensure_ascii=False).encode()
LIMIT = 2**20


@pytest.fixture(scope="module")
def roomy_gateway(start_wired):
    return start_wired(max_body_bytes=str(16 * LIMIT))


@pytest.fixture
def roomy(call, roomy_gateway):
    """A client of a gateway that takes large bodies."""
    return call(roomy_gateway)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


def zstd_of_unknown_size(data):
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{'model': 'model-1'}", "not valid JSON"),
        (b'{"model": NaN, "x": "\\ud83d"}', "not valid JSON"),
        (b'{"model": "\xff\xfe"}', "not valid JSON"),
        (b'{"model": "\xff\xfe", "x": "\\ud83d"}', "not valid JSON"),
        (b"\x00\x01\x02", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[" * 100_000 + b'"\\u0041"' + b"]" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000 + b'"\\ud83d"' + b"}" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'"model"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"1", "not a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(ask, refused, fake_upstream, body, says):
    assert says in refused(ask.post(body), 400, "invalid_json")
    assert fake_upstream.requests == []


@pytest.mark.parametrize("depth", [100, 252, 253, 254, 300, 900, 960, 990, 1000, 2000, 50_000])
@pytest.mark.parametrize("text", [b'"x"', b'"\\ud83d"'])
@pytest.mark.parametrize("place", [b'"input":"Hi","x":%s', b'"input":[%s]', b'"input":[{"role":"user","content":%s}]'])
def test_a_deeply_nested_body_is_relayed_or_refused(ask, refused, fake_upstream, depth, text, place):
    """254 levels may be nested in each other, the body itself being one of them."""
    around = place.count(b"[") + place.count(b"{")
    if place == b'"input":[%s]':
        nested = b'{"a":' * (depth - around) + text + b"}" * (depth - around)
    else:
        nested = b"[" * (depth - around) + text + b"]" * (depth - around)
    fake_upstream.script(Reply(message_stream()))
    answer = ask.post(b'{"model":"model-1",%s}' % (place % nested))
    if depth < 254:
        assert answer.status == 200
        assert json.loads(text) == innermost(json.loads(fake_upstream.requests[0].body))
    else:
        refused(answer, 400, "invalid_json")
        assert fake_upstream.requests == []


def innermost(value):
    while isinstance(value, list | dict):
        value = list(value.values())[-1] if isinstance(value, dict) else value[-1]
    return value


def test_lone_surrogates_are_accepted_and_relayed(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.post(b'{"model":"model-1","input":[],"n":"cut \\ud83d"}').status == 200
    assert json.loads(fake_upstream.requests[0].body)["n"] == "cut \ud83d"


def test_unknown_fields_and_all_text_reach_the_upstream(ask, fake_upstream):
    sent = {"model": "model-1", "input": [{"x": "é\u2028\u0000😀"}], "made_up": {"big": 9223372036854775807, "f": 1.5}}
    fake_upstream.script(Reply(message_stream()))
    assert ask.post(sent).status == 200
    assert json.loads(fake_upstream.requests[0].body) == sent


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(GOOD)),
        ("x-gzip", gzip.compress(GOOD)),
        ("GZip", gzip.compress(GOOD[:10]) + gzip.compress(GOOD[10:])),
        ("deflate", zlib.compress(GOOD)),
        ("deflate", raw_deflate(GOOD)),
        ("zstd", zstd(GOOD)),
        ("zstd", zstd_of_unknown_size(GOOD)),
        ("zstd", zstd(GOOD[:10]) + zstd(GOOD[10:])),
        ("gzip, zstd", zstd(gzip.compress(GOOD))),
        ("identity", GOOD),
        ("", GOOD),
    ],
    ids=range(11),
)
def test_a_compressed_body_is_understood(ask, fake_upstream, coding, body):
    fake_upstream.script(Reply(message_stream()))
    assert ask.post(body, content_encoding=coding).status == 200
    assert json.loads(fake_upstream.requests[0].body) == json.loads(GOOD)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate, zstd, zstd_of_unknown_size])
@pytest.mark.parametrize("keep", [0, 1, 5, -12, -1])
def test_a_truncated_compressed_body_is_refused(ask, refused, pack, keep):
    coding = {gzip.compress: "gzip", zlib.compress: "deflate", raw_deflate: "deflate"}.get(pack, "zstd")
    refused(ask.post(pack(GOOD)[:keep], content_encoding=coding), 400, "invalid_content_encoding")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_compressed_as_it_says_is_refused(ask, refused, coding):
    assert coding in refused(ask.post(GOOD, content_encoding=coding), 400, "invalid_content_encoding")


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "nonsense"])
def test_an_unknown_compression_is_refused(ask, refused, coding):
    answer = ask.post(GOOD, content_encoding=coding)
    assert "gzip, deflate and zstd" in refused(answer, 415, "unsupported_content_encoding")


def filled(size):
    return json.dumps({"model": "model-1", "input": "x" * (size - 33)}).encode().ljust(size)


PACKS = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}


@pytest.mark.parametrize("coding", PACKS)
def test_a_body_of_just_the_allowed_size_is_accepted(ask, fake_upstream, coding):
    fake_upstream.script(Reply(message_stream()))
    assert ask.post(PACKS[coding](filled(LIMIT)), content_encoding=coding).status == 200


@pytest.mark.parametrize("coding", PACKS)
def test_a_body_that_is_too_large_is_refused(ask, refused, coding):
    answer = ask.post(PACKS[coding](filled(LIMIT + 1)), content_encoding=coding)
    assert str(LIMIT) in refused(answer, 413, "request_too_large")


def test_a_chunked_body_is_accepted(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.send("POST", "/v1/responses", iter([GOOD[:7], GOOD[7:]])).status == 200
    assert json.loads(fake_upstream.requests[0].body) == json.loads(GOOD)


def test_a_chunked_body_that_is_too_large_is_refused(ask, refused):
    refused(ask.send("POST", "/v1/responses", iter([filled(LIMIT), b" "])), 413, "request_too_large")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(ask, refused, coding):
    bomb = PACKS[coding](bytes(200 * LIMIT))
    assert len(bomb) < LIMIT
    refused(ask.post(bomb, content_encoding=coding), 413, "request_too_large")


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_a_body_that_takes_much_more_memory_than_it_has_bytes_is_refused(roomy, refused, fake_upstream, value):
    body = b'{"model":"model-1","input":[],"x":[%s]}' % b",".join([value] * 2_100_000)
    packed = gzip.compress(body, 1)
    assert "2000000 values" in refused(roomy.post(packed, content_encoding="gzip"), 413, "request_too_large")
    assert fake_upstream.requests == []


def test_a_large_body_is_accepted(roomy, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert roomy.post(filled(6 * LIMIT)).status == 200


def test_a_bomb_inside_a_bomb_is_refused(ask, refused):
    bomb = gzip.compress(gzip.compress(bytes(200 * LIMIT)))
    refused(ask.post(bomb, content_encoding="gzip, gzip"), 413, "request_too_large")
