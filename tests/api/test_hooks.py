"""The lifecycle hooks: when they are called, for whom, with what, and what happens if they raise."""

import json

import pytest

from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_core.runtime import plugins
from floway_core.runtime.lifecycle import build_providers
from floway_core.testing import Reply, message_stream

HOOKS = ["on_attempt_start", "prepare_responses_request"]
ITEMS = [{"role": "user", "content": "Hi"}]


def test_order_and_arguments(ask, fake_upstream, journal):
    fake_upstream.script(Reply([b"{}"], 401), Reply(message_stream()))
    answer = ask.create(ITEMS)
    assert answer.status == 200
    lines = journal(answer.headers["x-request-id"])
    assert [(line["plugin"], line["hook"], line.get("dispatch")) for line in lines] == [
        ("wire", "on_attempt_start", None),
        ("auditor", "on_attempt_start", None),
        ("wire", "prepare_responses_request", 1),
        ("auditor", "prepare_responses_request", 1),
        ("wire", "prepare_responses_request", 2),
        ("auditor", "prepare_responses_request", 2),
    ]
    assert {line["attempt"] for line in lines} == {f"{answer.headers['x-request-id']}.1"}
    assert {line["upstream"] for line in lines} == {"first"}
    assert {(line["kind"], line["model"]) for line in lines if line["plugin"] == "wire"} == {("wire", "model-1")}
    seen = [line for line in lines if line["plugin"] == "auditor"]
    assert {line["key"] for line in seen} == {"test"}
    assert {line["state"] for line in seen} == {f"state of {lines[0]['attempt']}"}
    assert seen[1]["headers"]["x-State"] == seen[1]["state"]
    assert seen[1]["body"]["model"] == "model-1"


def test_every_dispatch_starts_from_a_fresh_copy(ask, fake_upstream, journal):
    ask.headers |= {"x-test-recover": "always", "x-test-note": "yes"}
    fake_upstream.script(*[Reply([b"{}"], 401)] * 3, Reply(message_stream()))
    answer = ask.create(ITEMS)
    assert answer.status == 200
    bodies = [json.loads(request.body) for request in fake_upstream.requests]
    assert len(bodies) == 4
    assert all(body["input"] == [{**ITEMS[0], "noted": 1}, {"type": "note"}] for body in bodies)
    assert len({request.header("x-state") for request in fake_upstream.requests}) == 1


def test_two_requests_are_two_attempts(ask, fake_upstream):
    fake_upstream.script(*[Reply(message_stream())] * 2)
    assert ask.create().status == ask.stream().status == 200
    first, second = [request.header("x-state") for request in fake_upstream.requests]
    assert first != second


@pytest.mark.parametrize(("model", "owner"), [("canned", "canned"), ("model-2", "wire")])
def test_a_provider_hears_of_its_own_upstreams_only(ask, fake_upstream, journal, model, owner):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.create(model=model)
    assert answer.status == 200
    called = [(line["plugin"], line["hook"]) for line in journal(answer.headers["x-request-id"])]
    assert called == [(plugin, hook) for hook in HOOKS for plugin in (owner, "auditor")]


def test_an_observer_that_raises_disturbs_nobody(ask, gateway, fake_upstream, journal):
    ask.headers["x-test-observer"] = "raise"
    fake_upstream.script(Reply(message_stream()))
    answer = ask.create()
    assert answer.status == 200
    assert len([line for line in journal(answer.headers["x-request-id"]) if line["plugin"] == "auditor"]) == 2
    assert "Observer 'auditor' failed in on_attempt_start" in gateway.log
    assert "Observer 'auditor' failed in prepare_responses_request" in gateway.log


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("hook", HOOKS)
def test_what_the_owner_refuses_reaches_the_client(ask, refused, fake_upstream, hook, stream):
    ask.headers["x-test-raise"] = f"{hook} refusal"
    answer = ask.create(stream=stream)
    assert refused(answer, 418, "owner_refuses", "tea") == "The owner refuses."
    assert answer.headers["x-owner"] == "wire"
    assert fake_upstream.requests == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_of_the_owner_is_a_500_without_details(ask, gateway, refused, fake_upstream, hook, stream):
    ask.headers["x-test-raise"] = f"{hook} fault"
    answer = ask.create(stream=stream)
    assert "detail" not in refused(answer, 500, "internal_error")
    assert fake_upstream.requests == []
    attempt = f"{answer.headers['x-request-id']}.1"
    assert f"Attempt {attempt}: the plugin of upstream first failed in {hook}" in gateway.log
    assert "RuntimeError: a detail that is nobody's business" in gateway.log


class Named:
    """Observers and owners whose hook writes its name down, in each of the forms that pluggy takes."""

    def __init__(self, name, journal, kind=None):
        self.name, self.journal, self.kind = name, journal, kind

    @hookimpl
    def register_providers(self):
        return [canned_provider(self.kind)] if self.kind else []


class Plain(Named):
    @hookimpl
    def on_attempt_start(self, ctx):
        self.journal.append((self.name, ctx))


class Silent(Named):
    @hookimpl
    def on_attempt_start(self):
        self.journal.append((self.name, None))


class Around(Named):
    @hookimpl(wrapper=True)
    def on_attempt_start(self, ctx):
        yield
        self.journal.append((self.name, ctx))


def canned_provider(kind):
    class Canned(Provider):
        def list_models(self, upstream):
            return []

        def send(self, ctx):
            raise NotImplementedError

    provider = Canned()
    provider.kind = kind
    return provider


@pytest.mark.parametrize("owner", [Plain, Silent, Around])
def test_hooks_are_called_in_every_form(owner):
    manager, journal = plugins.build_plugin_manager(only=()), []
    for number, kind in enumerate([owner, Plain, Silent, Around]):
        plugins.register_plugin(manager, kind(str(number), journal, kind=None if number else "canned"), str(number))
    hooks = build_providers(manager, None).hooks["canned"]
    hooks.call("on_attempt_start", "the context")
    silent = "0" if owner is Silent else None
    assert journal == [(number, None if number in (silent, "2") else "the context") for number in ("0", "1", "2", "3")]
