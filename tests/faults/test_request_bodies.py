"""Request bodies that cost much more than they have bytes: in time by their compression, in memory by their values."""

import gzip
import json
import time
from pathlib import Path

import pytest
import zstandard

from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE

from .raw_client import wait_for

BUDGET = 200 * 2**20
OBJECTS = b'{"model":"model-1","store":false,"stream":true,"input":[],"tools":[%s]}' % b",".join(
    [b'{"type":"web_search"}'] * 90_000
)
"""About 2 MB that take about 30 MB when they are parsed."""


def memory(pid, kind="VmHWM"):
    """Bytes that a process has used at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def few_served(answers, refused):
    """The few answers that there was memory for. The others were refused for now."""
    served = [answer for answer in answers if answer.status == 200]
    for answer in answers:
        if answer not in served:
            refused(answer, 503, "server_overloaded")
            assert answer.headers["retry-after"] == "1"
    assert 1 <= len(served) <= 5
    return served


def test_the_memory_for_bodies_is_limited(start, call, refused, fake_upstream):
    """Those that do not fit are told to come again, and are served when others have ended."""
    gateway = start(body_memory_bytes=str(BUDGET))
    ask, (worker,) = call(gateway), gateway.workers
    first, *others = message_stream()
    fake_upstream.answer_always("/answers", Reply([first, Step.HOLD, *others]))
    before, packed = memory(worker), gzip.compress(OBJECTS)
    assert len(packed) < 20_000
    answers = [ask.post(packed, content_encoding="gzip") for _ in range(20)]
    served = few_served(answers, refused)
    assert memory(worker) - before < BUDGET + 24 * 2**20
    assert ask.get("/healthz").status == 200
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer in served)
    wait_for(lambda: gateway.log.count("POST /v1/responses 200") == len(served))
    assert ask.post(packed, content_encoding="gzip").status == 200


@pytest.mark.parametrize("fields", [b'"stream":true', b'"stream":false', b'"store":true,"background":true'])
def test_a_request_needs_less_when_its_upstream_has_accepted_it(start, call, refused, fake_upstream, fields):
    """There is memory for one that is on its way beside one that is answered, but not for a third."""
    gateway = start(body_memory_bytes=str(128 * 2**20))
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.answer_always("/answers", Reply([first, Step.HOLD, *others]))
    answered, beside = ask.post(OBJECTS.replace(b'"stream":true', fields)), []

    def is_accepted():
        beside.append(ask.post(OBJECTS))
        return beside[-1].status == 200

    wait_for(lambda: fake_upstream.requests)
    wait_for(is_accepted)
    refused(ask.post(OBJECTS), 503, "server_overloaded")
    fake_upstream.release.set()
    assert answered.status == 200
    assert beside[-1].body.endswith(DONE)
    wait_for(lambda: gateway.log.count("200") >= 2 and ask.post(OBJECTS).status == 200)


def test_a_body_that_never_fits_is_too_large(start, call, refused):
    ask = call(start(body_memory_bytes=str(4 * 2**20)))
    for _ in range(3):  # nothing stays reserved
        assert "bytes of memory" in refused(
            ask.post(gzip.compress(OBJECTS), content_encoding="gzip"), 413, "request_too_large"
        )
    assert ask.post({"model": "model-1"}).status == 400


@pytest.mark.parametrize(
    "text", ['"a,b:[{', '\\"', "\\\\", "Grüße 😀", '{"a": [1, 2, {"b": "c\\\\"}]}', "x" * 40], ids=range(6)
)
def test_what_is_inside_of_strings_counts_as_text(start, call, fake_upstream, text):
    """A body with much JSON in its texts, as tools send it, needs little more than its length."""
    ask = call(start(body_memory_bytes=str(40 * 2**20)))
    sent = {"model": "model-1", "store": False, "input": [{"role": "user", "content": text * (2 * 2**20 // len(text))}]}
    fake_upstream.script(Reply(message_stream()))
    answer = ask.post(json.dumps(sent, ensure_ascii=False).encode())
    assert answer.status == 200, answer.body
    assert json.loads(fake_upstream.requests[0].body)["input"] == sent["input"]


def nested(pack, data, times):
    for _ in range(times):
        data = pack(data)
    return data


@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
def test_at_most_two_codings(ask, refused, coding):
    answer = ask.post(b"", content_encoding=", ".join([coding] * 3))
    assert "at most 2" in refused(answer, 415, "unsupported_content_encoding")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


HUGE = 24 * 2**20


@pytest.mark.parametrize(
    "body",
    [
        lambda: ("gzip", gzip.compress(b"", 9) * (HUGE // 20)),
        lambda: ("zstd", zstandard.ZstdCompressor().compress(b"") * (HUGE // 9)),
        lambda: ("gzip", gzip.compress(b" " * HUGE, 0)),
        lambda: ("gzip, gzip", nested(lambda data: gzip.compress(data, 0), b" " * HUGE, 2)),
        lambda: ("deflate, gzip", gzip.compress(bytes(HUGE), 9)),
    ],
    ids=["empty members", "empty frames", "stored", "stored twice", "no deflate"],
)
def test_decompression_takes_linear_time(start, call, body):
    """Whatever the body consists of. The processor's time is measured, with a limit far above what it takes."""
    gateway = start(max_body_bytes=str(2 * HUGE))
    ask, (worker,) = call(gateway), gateway.workers
    coding, content = body()
    before = cpu_seconds(worker)
    started = time.monotonic()
    assert ask.post(content, content_encoding=coding).status == 400
    assert cpu_seconds(worker) - before < 5, time.monotonic() - started
