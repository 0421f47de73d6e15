"""Changing upstreams, models, keys and conversations in a browser, with JavaScript and without."""

import re

import pytest

from floway_core.administration import aliases, keys
from floway_core.storage import upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient


@pytest.fixture
def database(furnished):
    """The database, which is afterwards as it was before."""
    opened = connect(f"sqlite:///{furnished.database}")
    before = [row.name for row in (*keys.all_rows(opened), *upstreams.all_rows(opened), *aliases.all_rows(opened))]
    yield opened
    for room, delete in ((keys, keys.delete), (upstreams, upstreams.remove), (aliases, aliases.remove)):
        for row in room.all_rows(opened):
            if row.name not in before:
                delete(opened, row.name)
    opened.close_all()


@pytest.mark.parametrize("script", [True, False])
def test_a_key_from_its_creation_to_its_deletion(look, furnished, database, script):
    window = look.open(script=script)
    window.goto("/dashboard/keys")
    window.click("text=Create a key")
    window.fill("#name", "browser")
    window.fill("#requests_per_minute", "many")
    window.fill("#expires_at", "2040-02-03T04:05")
    window.click("button:has-text('Create')")
    assert "whole number" in window.locator("#requests_per_minute-hint").inner_text()
    assert (window.input_value("#name"), window.input_value("#expires_at")) == ("browser", "2040-02-03T04:05")
    if script:
        look.check(window)
    window.fill("#requests_per_minute", "7")
    window.click("button:has-text('Create')")
    secret = window.locator("#secret").inner_text()
    assert ApiClient(furnished.url, secret).get("/v1/models").status == 200
    if script:
        look.check(window)
    window.click("text=I have copied it")
    assert secret not in window.content() and "7 requests a minute" in window.content()
    window.click("button:has-text('Revoke')")
    assert window.locator("h1").inner_text() == "Revoke the key browser?"
    window.click("text=Cancel")
    window.click("button:has-text('Revoke')")
    window.click("button:has-text('Revoke')")
    assert "is revoked" in window.locator("[role=status]").inner_text()
    assert ApiClient(furnished.url, secret).get("/v1/models").status == 401
    window.click("button:has-text('Delete')")
    window.click("button:has-text('Delete')")
    assert window.locator("h1").inner_text() == "API keys" and "browser" not in [
        r.name for r in keys.all_rows(database)
    ]


@pytest.mark.parametrize("script", [True, False])
def test_an_upstream_is_added_changed_moved_and_removed(look, database, script):
    window = look.open(script=script)
    window.goto("/dashboard/new-upstream")
    window.click("[aria-label='Choose openai']")
    window.fill("#name", "browser")
    window.fill("#base_url", "http://203.0.113.1/v1")
    window.fill("#api_key", "sk-of-the-browser")
    window.fill("#models", "one\ntwo")
    window.click("button:has-text('Add and test')")
    assert "an https URL" in window.locator("#base_url-hint").inner_text()
    assert window.input_value("#models") == "one\ntwo" and "sk-of-the-browser" not in window.content()
    if script:
        look.check(window)
    window.fill("#base_url", "http://127.0.0.1:9/v1")
    window.fill("#api_key", "sk-of-the-browser")
    window.click("button:has-text('Add and test')")
    assert "It does not work yet" in window.locator("[role=status]").inner_text()
    window.fill("#prefix", "b")
    window.click("button:has-text('Save')")
    assert window.locator("[role=status]").inner_text() == "browser is changed."
    window.click("button:has-text('Test now')")
    assert "cannot be reached" in window.locator("[role=alert]").inner_text()
    if script:
        look.check(window)
    window.click("button:has-text('Disable')")
    assert not upstreams.find(database, "browser").enabled
    window.goto("/dashboard/upstreams")
    window.click("[aria-label='Move up: browser']")
    names = [row.name for row in upstreams.all_rows(database)]
    assert names.index("browser") == len(names) - 2
    window.click("th a:has-text('browser')")
    window.click("button:has-text('Remove') >> nth=0")
    window.click("button:has-text('Remove')")
    assert window.locator("h1").inner_text() == "Upstreams"
    assert "browser" not in [row.name for row in upstreams.all_rows(database)]


@pytest.mark.parametrize("script", [True, False])
def test_an_alias_is_created_changed_and_removed(look, database, script):
    window = look.open(script=script)
    window.goto("/dashboard/models")
    window.click("text=Create an alias")
    window.fill("#name", "browser")
    window.fill("#targets", "gpt-5.5@nowhere")
    window.click("button:has-text('Create')")
    assert "no upstream named" in window.locator("#targets-hint").inner_text()
    if script:
        look.check(window)
    window.fill("#targets", "gpt-5.5@azure\ngpt-5.5")
    window.click("button:has-text('Create')")
    window.click("[aria-label='Change browser']")
    window.fill("#effort", "low")
    window.click("button:has-text('Save')")
    assert aliases.find(database, "browser").effort == "low"
    window.click("[aria-label='Remove browser']")
    window.click("button:has-text('Remove')")
    assert "is removed" in window.locator("[role=status]").inner_text()


@pytest.mark.parametrize("script", [True, False])
def test_a_conversation_is_deleted(look, furnished, database, script):
    client = ApiClient(furnished.url, keys.create(database, "browser"))
    response_id = client.create("Hello", model="echo").json()["id"]
    window = look.open(script=script)
    window.goto("/dashboard/conversations")
    window.click("[aria-label='Conversations of browser']")
    assert response_id in window.content() and "Hello" not in window.content()
    if script:
        look.check(window)
        look.shoot(window, "conversations-of-a-key")
    window.click(f"[aria-label='Delete {response_id}']")
    assert re.search(response_id, window.locator("h1").inner_text())
    window.click("button:has-text('Delete')")
    assert client.get(f"/v1/responses/{response_id}").status == 404
