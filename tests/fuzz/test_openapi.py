"""The OpenAPI description against the application: nothing is missing, and requests made up from it find no fault."""

import json
import logging
import os
import re
from types import SimpleNamespace

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from floway_core import __version__
from floway_core.runtime.gateway import read_settings
from floway_core.runtime.plugins import build_plugin_manager
from floway_core.storage import aliases, keys, upstreams
from floway_core.testing import FakeUpstream, Reply, message_stream
from floway_core.testing.fuzz import examples
from floway_core.web.app import create_app
from floway_core.web.openapi import description

pytestmark = pytest.mark.soak

DESCRIBED = json.loads(description())
METHODS = ("get", "put", "post", "delete", "patch")
TOKEN = "the-admin-token-of-this-test"
MODELS = ("model-1", "org/model-3")

load_all_checks()


def item_at(path):
    """What is described for a path; some are aliases of others."""
    item = DESCRIBED["paths"][path]
    return DESCRIBED["paths"][item["$ref"].removeprefix("#/paths/").replace("~1", "/")] if "$ref" in item else item


def scheme_of(path, method):
    """The first security scheme, or None where no key is needed."""
    required = item_at(path)[method].get("security", DESCRIBED["security"])
    return next((name for scheme in required for name in scheme), None)


OPERATIONS = [(path, method) for path in DESCRIBED["paths"] for method in METHODS if method in item_at(path)]


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as made:
        made.answer_always("/answers", Reply(message_stream()))
        yield made


@pytest.fixture(scope="module")
def app(plugin_folder, tmp_path_factory, upstream):
    """The application in this process, with all its routes."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(plugin_folder))
        patch.setenv("TEST_JOURNAL", os.devnull)
        manager = build_plugin_manager(only=["wire"])
        environ = {"FLOWAY_DATA_DIR": str(folder), "FLOWAY_WIRE_URL": upstream.url, "FLOWAY_METRICS": "token"}
        made = create_app(read_settings(manager, {**environ, "FLOWAY_ADMIN_TOKEN": TOKEN}), manager)
        yield made
        made.extensions["floway"].services.database.close_all()


@pytest.fixture
def stage(app, upstream):
    """An upstream, keys and stored responses to play with: requests may destroy them."""
    upstream.forget()
    database = app.extensions["floway"].services.database
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    for row in keys.all_rows(database):
        keys.delete(database, row.name)
    for alias in aliases.all_rows(database):
        aliases.remove(database, alias.name)
    upstreams.add(database, "wire", "first")
    mine, other = keys.create(database, "mine"), keys.create(database, "other")
    ids = [created(app, key) for key in (mine, mine, other)] + [created(app, mine, background=True)]
    opened = [opened_conversation(app, key) for key in (mine, mine, other)]
    conversations, items = zip(*opened, strict=True)
    return SimpleNamespace(
        key=mine, ids=ids, conversations=conversations, items=items, names=["mine", "other", "first", "a/b"]
    )


def created(app, key, **fields):
    body, headers = {"model": "model-1", "input": "Hi", **fields}, {"authorization": f"Bearer {key}"}
    with app.test_client().post("/v1/responses", json=body, headers=headers) as answer:
        assert answer.status_code == 200, answer.text
        return answer.json["id"]


def opened_conversation(app, key):
    """The ids of a conversation and of an item in it."""
    body, headers = {"items": [{"role": "user", "content": "Hi"}]}, {"authorization": f"Bearer {key}"}
    client = app.test_client()
    with client.post("/v1/conversations", json=body, headers=headers) as answer:  # closed: a server's slots are few
        conversation = answer.json["id"]
    with client.get(f"/v1/conversations/{conversation}/items", headers=headers) as answer:
        return conversation, answer.json["first_id"]


@pytest.fixture(scope="module")
def schema(app):
    return schemathesis.openapi.from_wsgi("/openapi.json", lambda *call: served(app, *call))


def served(app, environ, start_response):
    """What a server does with an application, and test clients do not: read the answer to its end and close it."""
    answer = app(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


# ----------------------------------------------------------------------------------------------------- completeness
def test_the_description_has_all_routes_and_no_others(app):
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert served == set(OPERATIONS)


def test_the_description_is_of_this_version_and_needs_no_key(app):
    answer = app.test_client().get("/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json["info"]["version"] == __version__


def test_every_reference_leads_somewhere():
    for reference in re.findall(r'"\$ref": "#/(.*?)"', description().decode()):
        found = DESCRIBED
        for step in reference.split("/"):
            found = found[step.replace("~1", "/")]


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer x"}], ids=["none", "wrong"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_needs_a_key_is_refused_without(app, stage, path, method, given):
    answer = app.test_client().open(
        path.format(
            response_id=stage.ids[0],
            conversation_id=stage.conversations[0],
            item_id=stage.items[0],
            model="model-1",
            name="mine",
        ),
        method=method,
        headers=given,
    )
    answer.close()
    assert (answer.status_code == 401) == (scheme_of(path, method) is not None)


# ------------------------------------------------------------------------------------------------------------- fuzz
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_made_up_requests_find_no_fault(schema, stage, upstream, caplog, path, method, mode):
    operation = schema[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
        pytest.skip("nothing can be unfitting")
    secret = {"admin": TOKEN, "key": stage.key, None: ""}[scheme_of(path, method)]
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    caplog.set_level(logging.ERROR)

    @examples(8)
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case, data):
        aim(case, data.draw, stage)
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=CHECKS, headers=headers)
        assert answer.status_code < 500
        assert answer.headers["x-request-id"]
        if len(upstream.requests) > 1000:
            upstream.forget()

    run()
    assert [record.getMessage() for record in caplog.records] == []


def aim(case, draw, stage):
    """Let some of what is made up hit what is there, or every request would end at the first check."""
    body = case.body
    if isinstance(body, dict):
        if "model" in body and draw(st.booleans()):
            body["model"] = draw(st.sampled_from(MODELS))
        if "previous_response_id" in body:
            body["previous_response_id"] = draw(st.sampled_from([body["previous_response_id"], None, *stage.ids]))
        if "conversation" in body:
            body["conversation"] = draw(st.sampled_from([body["conversation"], None, *stage.conversations]))
    given = case.path_parameters or {}
    ids = (("conversation_id", stage.conversations), ("item_id", stage.items), ("response_id", stage.ids))
    for name, there in (*ids, ("model_id", MODELS), ("name", stage.names)):
        if name in given and draw(st.integers(0, 3)):
            given[name] = draw(st.sampled_from(there))
