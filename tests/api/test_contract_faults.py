"""The contract of providers finds faults of answers and bodies: each fault fails its own check and no other."""

import os
import re
import subprocess
import sys

import pytest

from floway_core.testing import write_plugin

pytestmark = pytest.mark.soak  # long: many processes, or waits

PROVIDER = '''"""A provider for servers of the Responses API that converts their events, with one fault."""

import json
import os

from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext, sse
from floway_core.protocol.event_parser import parse_events
from floway_core.provider import Model, Provider, ResponseBody
from floway_core.settings import Setting, origin_url
from floway_core.upstream import HttpClient, TranslatedBody

FAULT = "no fault"


class Faulty(Provider):
    kind = "faulty"

    def __init__(self, services):
        self._http = HttpClient(services.settings)
        self._url = services.settings.plugin["faulty_url"]

    def list_models(self, upstream):
        if FAULT == "models are fetched for every request":
            self._http.fetch("GET", f"{self._url}/models", {})
        return [Model("faulty-1", "faulty")]

    def send(self, ctx):
        body = ctx.body
        if FAULT == "another id goes back":
            for item in body["input"]:
                if item["type"] == "function_call_output":
                    item["call_id"] = "call_new"
        headers = {"content-type": "application/json"}
        response = self._http.stream(ctx, "POST", f"{self._url}/responses", headers, jsontext.dumps(body))
        if response.status == 200:
            response.body = BODIES.get(FAULT, lambda body: body)(
                TranslatedBody(response.body, Translator(), convert_document)
            )
        return response


def convert(event):
    """Plant the faults of answers in an event, or in a response as a whole."""
    response = event.get("response") or {}
    items = [*response.get("output", []), *([event["item"]] if "item" in event else [])]
    if FAULT == "usage is lost":
        response["usage"] = None
    for item in items:
        if FAULT == "ids of calls are lost" and "call_id" in item:
            item["call_id"] = "call_new_" + item["id"]
    if FAULT == "the limit is lost" and response.get("status") == "incomplete":
        response |= {"status": "completed", "incomplete_details": None}
        if "type" in event:
            event["type"] = "response.completed"
    return event


def convert_document(content):
    try:
        document = json.loads(content)
    except ValueError:
        return content
    calls = [item for item in document.get("output", []) if item["type"] == "function_call"]
    if FAULT == "arguments of parallel calls are mixed" and len(calls) > 1:
        calls[0]["arguments"], calls[1]["arguments"] = calls[1]["arguments"], calls[0]["arguments"]
    return jsontext.dumps(convert({"response": document})["response"])


class Translator:
    """Passes events on, with the faults of ``convert``."""

    def __init__(self):
        self._ended = False
        self._calls = []
        self._items = {}

    def feed(self, block):
        return b"".join(self._feed(event) for event in parse_events(block) if event)

    def _feed(self, event):
        event = convert(event)
        kind, item = event["type"], event.get("item") or {}
        self._ended = self._ended or kind in ("response.completed", "response.incomplete", "response.failed")
        if FAULT == "arguments of parallel calls are mixed" and "arguments" in item:
            if kind == "response.output_item.added":
                self._calls.append({**item, "arguments": ""})
            else:  # all deltas went to the call that was opened last
                item["arguments"] = self._items.get(item["id"], item["arguments"])
        if kind == "response.function_call_arguments.delta" and FAULT == "arguments of parallel calls are mixed":
            event["item_id"] = self._calls[-1]["id"]
        if kind == "response.output_item.done" and item:
            self._items[event["output_index"]] = item
        return sse.encode(event["type"], jsontext.dumps(event))

    def end(self):
        if FAULT != "what breaks off counts as complete" or self._ended:
            return b""
        response = {"id": "resp_1", "object": "response", "status": "completed", "model": "faulty-1"}
        output = [self._items[index] for index in sorted(self._items)]
        event = {"type": "response.completed", "response": {**response, "output": output}}
        return sse.encode(event["type"], jsontext.dumps(event))

    def failure(self, error):
        return b""


class Wrapped(ResponseBody):
    """Passes a body on."""

    def __init__(self, inner):
        self.inner = inner

    def read(self, timeout, client=None):
        return self.inner.read(timeout, client)

    def fileno(self):
        return self.inner.fileno()

    def close(self):
        self.inner.close()


class IgnoresTimeout(Wrapped):
    def read(self, timeout, client=None):
        return self.inner.read(timeout and 3600, client)


class IgnoresClient(Wrapped):
    def read(self, timeout, client=None):
        return self.inner.read(timeout)


class Blocks(Wrapped):
    def read(self, timeout, client=None):
        return self.inner.read(timeout or 3600, client)


class OneEventPerRead(Wrapped):
    def __init__(self, inner):
        super().__init__(inner)
        self.events = []

    def read(self, timeout, client=None):
        if not self.events:
            data = self.inner.read(timeout, client)
            if not data:
                return data
            self.events = sse.split(data)
        return self.events.pop(0)


BODIES = {
    "read ignores its timeout": IgnoresTimeout,
    "read ignores the client": IgnoresClient,
    "read(0) blocks": Blocks,
    "read returns one event": OneEventPerRead,
}


@hookimpl
def register_settings():
    return [Setting("faulty_url", origin_url, "http://127.0.0.1:9", "Where to send requests.")]


@hookimpl
def register_providers(services):
    return [Faulty(services)]
'''

CONTRACT = '''"""The contract of the provider."""

from floway_core.testing import Reply
from floway_core.testing.contract import ProviderContract


class TestContract(ProviderContract):
    plugin = "faulty"
    model = "faulty-1"
    has_tables = False

    def settings(self, upstream):
        return {"faulty_url": upstream.url}

    def add_upstream(self, installation, upstream):
        upstream.answer_always("/models", Reply([b"{}"]))
        assert installation.run("upstreams", "add", "faulty", "one").returncode == 0
'''

USAGE = "test_reports_the_usage"
IDS = "test_keeps_the_ids_of_tool_calls"
PARALLEL = "test_keeps_parallel_tool_calls_apart"
BREAKS_OFF = "test_an_answer_that_breaks_off_is_not_complete"
LIMIT = "test_an_answer_at_the_limit_of_tokens_is_incomplete"
MODELS = "test_does_not_ask_for_the_models_with_every_request"
READS_ALL = "test_reading_without_a_timeout_takes_what_has_arrived"
WAITS = "test_waiting_for_more_ends_in_time"

FAULTS = {
    "no fault": set(),
    "usage is lost": {USAGE},
    "ids of calls are lost": {IDS, PARALLEL},  # the second finds the calls by their ids
    "another id goes back": {IDS},
    "arguments of parallel calls are mixed": {PARALLEL},
    "what breaks off counts as complete": {BREAKS_OFF},
    "the limit is lost": {LIMIT},
    "models are fetched for every request": {MODELS},
    "read ignores its timeout": {WAITS},
    "read ignores the client": {WAITS},
    "read(0) blocks": {READS_ALL},
    "read returns one event": {READS_ALL},
}

IN_SHORT = ("usage is lost", "read returns one event")


def failed_checks(folder, fault):
    """Run the contract on the provider with a fault; return the names of the tests that fail."""
    assert f'"{fault}"' in PROVIDER
    write_plugin(folder / "plugins", "faulty", PROVIDER.replace('FAULT = "no fault"', f'FAULT = "{fault}"'))
    (folder / "test_faulty.py").write_text(CONTRACT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        env={**os.environ, "PYTHONPATH": str(folder / "plugins")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert " passed" in done.stdout and "error" not in done.stdout.splitlines()[-1], done.stdout
    return set(re.findall(r"^FAILED .*::(\w+)", done.stdout, re.MULTILINE)), done.stdout


@pytest.mark.parametrize(
    "fault", [*IN_SHORT, *(pytest.param(fault, marks=pytest.mark.soak) for fault in FAULTS if fault not in IN_SHORT)]
)
def test_a_fault_fails_its_check_and_no_other(tmp_path, fault):
    failed, output = failed_checks(tmp_path, fault)
    assert failed == FAULTS[fault], output
