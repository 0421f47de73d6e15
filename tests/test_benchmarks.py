"""The benchmark: its checks notice every fault, and each scenario runs. No measured value decides a test."""

import json
import os
import shutil
import subprocess
import sys
from array import array
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks import postgresql, wire
from benchmarks.answers import StreamCheck, WrongAnswer, check_whole
from benchmarks.load import Load, Plan
from benchmarks.messages import MessageCheck
from benchmarks.processes import cores
from benchmarks.scale import FIGURES, KINDS
from benchmarks.soak import Sample, Soak
from benchmarks.targets import upstream

ROOT = Path(__file__).parent.parent
DELTAS = 4
ID = b"%032x" % 7
STAMPS = [b"%018d" % number for number in range(DELTAS)]


def delta_events():
    return [
        b"".join((head, ID, middle, stamp, wire.DELTA_TAIL))
        for stamp, (head, middle) in zip(STAMPS, map(wire.delta_parts, range(DELTAS)), strict=True)
    ]


def checked(deltas, exact=True):
    opening = b"".join(wire.opening_events(ID))
    closing = b"".join(wire.closing_events(ID, DELTAS, wire.full_text(range(DELTAS), STAMPS)))
    check = StreamCheck(DELTAS, exact, array("Q"))
    check.feed(opening + deltas + closing, now=0)
    check.finish()


def test_no_byte_of_a_delta_is_lost_doubled_or_altered_unnoticed():
    whole = b"".join(delta_events())
    checked(whole)
    for at in range(len(whole)):
        for changed in (b"", whole[at : at + 1] * 2, bytes([whole[at] ^ 1])):
            with pytest.raises(WrongAnswer):
                checked(whole[:at] + changed + whole[at + 1 :])


def test_deltas_that_a_gateway_writes_anew_are_compared_by_content():
    events = [json.loads(event.partition(b"data: ")[2]) for event in delta_events()]
    anew = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    checked(b"".join(anew), exact=False)
    with pytest.raises(WrongAnswer):
        checked(b"".join(anew))
    for wrong in (anew[:-1], anew[::-1], [*anew, anew[-1]], [anew[0].replace(b"t000000", b"t00000"), *anew[1:]]):
        with pytest.raises(WrongAnswer):
            checked(b"".join(wrong), exact=False)


def test_no_byte_of_a_text_in_one_piece_is_altered_unnoticed():
    text = wire.full_text(range(DELTAS), STAMPS[:1] * DELTAS)
    assert check_whole(wire.whole_answer(ID, DELTAS, text), DELTAS) == f"resp_{ID.decode()}"
    for wrong in [*(text[:at] + text[at + 1 :] for at in range(len(text))), text[27:] + text[:27], text * 2]:
        with pytest.raises(WrongAnswer):
            check_whole(wire.whole_answer(ID, DELTAS, wrong), DELTAS)


def message_events():
    """The answer of a gateway to a client of the Messages API."""
    texts = [(wire.label(number) + stamp + b" ").decode() for number, stamp in enumerate(STAMPS)]
    deltas = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}} for text in texts]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": DELTAS}}
    events = [{"type": "message_start", "message": {"id": "msg_1"}}, *deltas, end, {"type": "message_stop"}]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def check_messages(events):
    check = MessageCheck(DELTAS, True, array("Q"))
    check.feed(b"".join(events), now=0)
    check.finish()


def test_no_delta_of_a_message_is_lost_doubled_or_altered_unnoticed():
    events = message_events()
    check_messages(events)
    altered = events[1].replace(b"t000000", b"t000001"), events[-2].replace(b"4", b"5")
    for wrong in (
        *(events[:at] + events[at + 1 :] for at in range(1, len(events))),
        [*events[:2], *events[1:]],
        [events[0], altered[0], *events[2:]],
        [*events[:-2], altered[1], events[-1]],
    ):
        with pytest.raises(WrongAnswer):
            check_messages(wrong)


@pytest.fixture(scope="module")
def url():
    with upstream(cores()[0]) as base:
        yield f"{base}/responses"


def asked(url, order, stream=True, **plan):
    return Load(Plan(url, {"input": str(order), "stream": stream}, order.deltas, requests=3, **plan)).run()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("fault", wire.FAULTS)
@pytest.mark.parametrize("every", [0, 100])
def test_what_an_upstream_does_wrong_is_noticed(url, fault, every, exact):
    result = asked(url, wire.Order(100, every, fault), exact=exact)
    assert (result["complete"], result["failed"]) == (0, 3), result
    assert result["problems"]


@pytest.mark.parametrize("order", [wire.Order(0), wire.Order(1), wire.Order(2000), wire.Order(5, 1000)], ids=str)
def test_what_an_upstream_does_right_is_counted(url, order):
    streamed, whole = asked(url, order), asked(url, order, stream=False)
    for result in (streamed, whole):
        assert (result["complete"], result["failed"], result["unfinished"]) == (3, 0, 0), result
    assert streamed["events"] == 3 * (order.deltas + 8)
    assert streamed["deltas"] == 3 * order.deltas


def test_what_is_not_complete_in_time_is_not_counted(url):
    result = asked(url, wire.Order(1000, 1_000_000), time_limit=0.1)
    assert (result["complete"], result["failed"], result["unfinished"]) == (0, 0, 1)


def run(*arguments):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWAY_")}
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.soak
def test_every_scenario_runs_and_gets_into_the_table(tmp_path):
    short = "--rounds 1 --seconds 0.1 --hold 10 --hold-seconds 3 --ramp 0 --turns 10 --settling 0".split()
    run("run", *short, "--output", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert all(run["complete"] and not run["failed"] for run in result["runs"])
    table = run("table", "--markdown", tmp_path / "result.json").splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table if line.startswith("|")]
    assert rows[0][-2:] == ["direct", "Floway"]
    assert len(rows) > 35
    assert [row for row in rows if row[-1] in ("–", "invalid")] == []


@pytest.mark.soak
def test_the_load_test_runs():
    table = run(*"load --streams 10 --seconds 1 --ramp 0 --threads 4 --burst-seconds 1".split())
    assert "10 streams" in table and "503 with retry-after" in table


LEVELS = {name.name: 0 for name in fields(Sample)}


def soak_of(memory, threads=20):
    return Soak([Sample(**{**LEVELS, "memory": level, "threads": threads}) for level in memory])


def test_a_soak_is_judged_by_its_last_third():
    assert soak_of([100, 150, 160, 160, 162, 158, 161, 163, 160]).passed
    assert soak_of([100, 150, 160, 160, 162, 158, 175, 178, 180]).growing == ["memory"]
    assert soak_of([100, 150, 160, 160, 162, 158, 190, 160, 160]).passed  # a single peak
    assert not Soak([], []).passed
    busier = [Sample(**{**LEVELS, "requests": count, "rows": 7 * count}) for count in (1000,) * 6 + (3000,) * 3]
    assert Soak(busier).passed  # more requests store more
    assert Soak([replace(one, rows=one.rows * (1 + one.requests // 3000)) for one in busier]).growing == ["rows"]
    wrong = soak_of([1] * 9)
    wrong.problems.append("status 500")
    assert not wrong.passed


@pytest.mark.soak
def test_the_soak_runs():
    table = run(*"soak --minutes 0 --period 3".split())
    assert "descriptors" in table and "Too short to judge" in table


@pytest.mark.soak
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
def test_instructions_are_counted():
    table = run(*"instructions --kinds request stream --requests 1".split()).splitlines()
    rows = [line.split() for line in table[1:]]
    assert [row[:2] for row in rows] == [["Floway", "request"], ["Floway", "stream"]]
    assert all(float(millions) > 0.1 for *_, millions in rows)


@pytest.mark.parametrize("turns", [0, 3])
def test_requests_that_differ_are_sent_in_turn(url, turns):
    right, wrong = ({"input": str(wire.Order(count))} for count in (DELTAS, DELTAS + 1))
    plan = Plan(url, {"stream": False}, DELTAS, requests=6, turns=turns, each=[right, right, wrong])
    result = Load(plan).run()
    assert (result["complete"], result["failed"]) == (4, 2), result


@pytest.mark.soak
def test_the_measurement_of_many_items_runs():
    try:
        postgresql.find_programs()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    table = run(*"scale --items 300 --conversations 2 --rounds 1 --seconds 0.2".split()).splitlines()
    assert any(line.startswith("responses_items: 300 rows") for line in table)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == list(FIGURES.values())
    for row in rows[2:]:
        if row[0] in (FIGURES["statements"], FIGURES["rows"], FIGURES["wal"]):
            assert all(float(cell) > 0 for cell in row[1:] if cell), row
    assert len(rows[0]) == 3 * len(KINDS)
