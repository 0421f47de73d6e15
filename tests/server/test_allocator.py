"""A worker uses few arenas of the C library, however many threads it has."""

import ctypes
import os
import re

import pytest

from floway_core.server.allocator import ARENAS
from floway_core.testing import ApiClient, Reply, RunningGateway, Step, message_stream, write_plugin

from ..support.stored_upstreams import add_upstreams

ARENA_REPORT = '''"""Shows the arenas of the process, as glibc describes them."""

import ctypes
import tempfile

from flask import Blueprint

from floway_core.hookspecs import hookimpl


def report():
    libc = ctypes.CDLL(None)
    libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    libc.fclose.argtypes = (ctypes.c_void_p,)
    with tempfile.NamedTemporaryFile() as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return file.read()


@hookimpl
def register_routes():
    blueprint = Blueprint("arenas", __name__)
    blueprint.add_url_rule("/arenas", view_func=report)
    return [blueprint]
'''


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc")
@pytest.mark.skipif("MALLOC_ARENA_MAX" in os.environ, reason="the environment sets the number of arenas")
def test_threads_share_a_few_arenas(tmp_path, plugin_folder, fake_upstream):
    write_plugin(tmp_path, "arenas", ARENA_REPORT)
    fake_upstream.answer_always("/answers", Reply(message_stream(), before=[Step.HOLD]))
    environ = {"TEST_JOURNAL": os.devnull}
    with RunningGateway(plugin_folders=[plugin_folder, tmp_path], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        ask = ApiClient(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})
        waiting = [ask.create() for _ in range(20)]  # each in a thread
        fake_upstream.wait_for_request(20)
        arenas = re.findall(rb"<heap nr=", ask.get("/arenas").body)
        assert 1 <= len(arenas) <= ARENAS
        fake_upstream.release.set()
        assert all(answer.status == 200 for answer in waiting)
