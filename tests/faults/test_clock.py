"""The wall clock jumps: neither waiting, nor order, nor retention depends on it."""

import contextlib
from types import SimpleNamespace

import pytest

from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin
from floway_core.testing.events import DONE

from ..conversation.direct_store import execute
from ..support.stored_upstreams import add_upstreams
from .raw_client import wait_for

DAY = 86_400

JUMPING = '''"""Lets the wall clock of the gateway's processes jump by the seconds in a file."""

import os
import time

real = time.time, time.time_ns


def offset():
    with open(os.environ["TEST_CLOCK"]) as file:
        return int(file.read())


time.time = lambda: real[0]() + offset()
time.time_ns = lambda: real[1]() + offset() * 1_000_000_000
'''


@pytest.fixture(scope="module")
def jumping(plugin_folder, tmp_path_factory):
    """A gateway whose clock ``jump(seconds)`` puts that much before or behind the real one."""
    folder = tmp_path_factory.mktemp("jumping")
    clock = folder / "clock"

    def jump(seconds):
        written = folder / "written"
        written.write_text(str(seconds))
        written.replace(clock)  # it is read all the time, and must never be empty

    jump(0)
    write_plugin(folder, "jumping", JUMPING)
    environ = {"TEST_CLOCK": str(clock), "TEST_JOURNAL": "/dev/null"}
    settings = {"idle_timeout": "2", "total_timeout": "60", "keepalive_interval": "0.05"}
    with RunningGateway(settings, plugin_folders=[folder, plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield SimpleNamespace(gateway=gateway, jump=jump)
        assert "Traceback" not in gateway.log


@pytest.fixture
def ask(call, jumping):
    jumping.jump(0)
    return call(jumping.gateway)


def went_on(ask, previous, count):
    """Continue a conversation; assert that the model sees ``count`` items before the new one."""
    answer = ask.create("on", previous_response_id=previous)
    assert answer.status == 200, answer.body
    told = answer.json()
    seen = ask.get(f"/v1/responses/{told['id']}/input_items?order=asc&limit=100").json()["data"]
    assert len(seen) == count + 1
    return told["id"]


@pytest.mark.parametrize("seconds", [-400 * DAY, -3600, 3600, 20 * DAY])
def test_a_conversation_goes_on(ask, jumping, fake_upstream, seconds):
    """Its turns stay in their order, whatever time their ids were made from; and its retention has not run out."""
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    last = ask.create("begin").json()["id"]
    last = went_on(ask, last, 2)
    jumping.jump(seconds)
    last = went_on(ask, last, 4)
    jumping.jump(0)
    went_on(ask, last, 6)


@pytest.mark.parametrize("seconds", [-400 * DAY, 400 * DAY])
def test_a_running_stream_is_not_cut(ask, jumping, fake_upstream, seconds):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = ask.stream(store=False)
    answer.read_until(b"\n\n")
    jumping.jump(seconds)
    answer.read_until(b"\n\n: keepalive\n\n: keepalive\n\n")  # it has looked at its clock since
    fake_upstream.release.set()
    assert answer.body.endswith(DONE)


def test_a_silent_upstream_is_given_up_in_its_time(ask, jumping, fake_upstream):
    """And not when the clock has come back to where it was."""
    first, *_ = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD]))
    answer = ask.stream(store=False)
    answer.read_until(b"\n\n")
    jumping.jump(-400 * DAY)
    assert b"upstream_timeout" in answer.body


def test_what_was_made_in_the_future_can_be_used_now(ask, jumping, fake_upstream):
    """Its moment lies ahead when the clock has been put right."""
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    jumping.jump(400 * DAY)
    last = ask.create("begin").json()["id"]
    jumping.jump(0)
    last = went_on(ask, last, 2)
    assert ask.get(f"/v1/responses/{last}").status == 200
    key = jumping.gateway.run("keys", "create", "another").stdout.strip()
    assert ask.get("/v1/models", authorization=f"Bearer {key}").status == 200


@pytest.mark.parametrize("seconds", [-90, 90])
def test_hosts_whose_clocks_differ_do_not_take_each_other_for_dead(
    plugin_folder, tmp_path, new_postgresql, fake_upstream, seconds
):
    url, hosts = new_postgresql(), []
    database = connect(url)
    write_plugin(tmp_path, "jumping", JUMPING)
    with contextlib.ExitStack() as stack:
        for offset in (0, seconds):
            (tmp_path / f"clock {offset}").write_text(str(offset))
            environ = {"TEST_CLOCK": str(tmp_path / f"clock {offset}"), "TEST_JOURNAL": "/dev/null"}
            folders = [tmp_path, plugin_folder]
            hosts.append(
                stack.enter_context(RunningGateway({"database_url": url}, plugin_folders=folders, environ=environ))
            )
            execute(database, "UPDATE api_keys SET name = id")  # the second host makes its own
        database.close_all()
        add_upstreams(hosts[0], first="wire")
        here, there = (ApiClient(host.url, hosts[0].key, {"x-test-upstream": fake_upstream.url}) for host in hosts)
        first, *others = message_stream()
        fake_upstream.script(*[Reply([first, Step.HOLD, *others])] * 2)
        conversation = here.post({}, "/v1/conversations").json()["id"]
        response_id = here.create(background=True).json()["id"]
        running = here.stream(conversation=conversation)
        running.read_until(b"response.created")
        fake_upstream.wait_for_request(2)
        assert there.get(f"/v1/responses/{response_id}").json()["status"] in ("queued", "in_progress")
        assert there.create(conversation=conversation).json()["error"]["code"] == "conversation_locked"
        fake_upstream.release.set()
        assert running.body.endswith(DONE)
        wait_for(lambda: there.get(f"/v1/responses/{response_id}").json()["status"] == "completed")
