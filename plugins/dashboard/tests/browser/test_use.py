"""What people do on the pages: sign in, send forms, try a model; and what must not work."""

import re

import pytest

from floway_core.storage.db import connect
from floway_core.testing import ApiClient

from ..invented import add_requests
from ..visitor import ADMIN_TOKEN, PASSWORD

HOSTILE = """<img src=x onerror=alert(1)>"'--><script>alert(2)</script>{{7*7}}"""


@pytest.fixture
def attempts(furnished):
    """Signing in has all its attempts again."""
    database = connect(f"sqlite:///{furnished.database}")
    with database.connection_context():
        database.execute_sql("DELETE FROM dashboard_attempts")


@pytest.mark.usefixtures("attempts")
@pytest.mark.parametrize("script", [True, False])
def test_signing_in_and_out(look, script):
    window = look.open(role="stranger", script=script)
    window.goto("/dashboard/live")
    window.fill("#password", "wrong")
    window.click("text=Sign in >> visible=true >> nth=-1")
    assert "neither the admin token" in window.locator("[role=alert]").inner_text()
    window.fill("#password", PASSWORD)
    window.keyboard.press("Enter")
    window.wait_for_url("**/dashboard/live")
    window.click("text=Sign out")
    window.wait_for_url("**/dashboard/sign-in*")
    window.goto("/dashboard/live")
    assert window.locator("h1").inner_text() == "Sign in"


def test_a_link_on_another_site_leads_to_the_page(look, furnished):
    window, link = look.open(), f'<a href="{furnished.url}/dashboard/live">go</a>'
    window.route("http://elsewhere.test/", lambda route: route.fulfill(body=link, content_type="text/html"))
    window.goto("http://elsewhere.test/")
    look.faults.clear()  # the made-up site
    window.click("a")
    window.wait_for_selector("h1:text('Live requests')")


def test_a_form_without_its_token_is_refused(look):
    window = look.open()
    window.goto("/dashboard/access")
    window.evaluate("document.querySelector('form.who [name=form_token]').value = 'made up'")
    window.click("text=Sign out")
    assert "out of date" in window.locator("[role=alert]").inner_text()
    look.shoot(window, "refused-form")
    window.goto("/dashboard/access")
    assert window.locator("h1").inner_text() == "Access"


@pytest.mark.parametrize("script", [True, False])
def test_the_playground_answers(look, script):
    window = look.open(script=script)
    window.goto("/dashboard/playground")
    window.select_option("#key", "ada")
    window.fill("#model", "echo")
    window.fill("#prompt", "Say <b>hello</b>")
    window.click("text=Send")
    window.wait_for_selector("[data-answer]:has-text('You said: Say <b>hello</b>')")
    window.locator("[data-facts]").filter(has_text=re.compile(r"\d m?s")).wait_for()
    look.shoot(window, f"playground-{'script' if script else 'plain'}")
    window.fill("#model", "nothing")
    window.click("text=Send")
    window.wait_for_selector("text=Model nothing is not available")


def test_live_requests_renew_themselves(look, furnished):
    window = look.open()
    window.goto("/dashboard/live")
    add_requests(furnished.database, [("renewed", 1, "ada", "new-model", "openai", "curl", 200, "completed", None)])
    window.wait_for_selector("td:has-text('new-model')")
    window.uncheck("text=Refresh")
    add_requests(furnished.database, [("later", 1, "ada", "later-model", "openai", "curl", 200, "completed", None)])
    assert window.locator("td:has-text('later-model')").count() == 0
    window.reload()
    window.wait_for_selector("td:has-text('later-model')")


def test_a_password_is_set_with_a_form_that_says_what_is_wrong(look):
    window = look.open()
    window.goto("/dashboard/access")
    window.fill("#password", "a long password")
    window.fill("#repeated", "another password")
    window.click("text=Set password")
    assert window.locator("#repeated-hint").inner_text() == "The passwords differ."
    assert window.locator("#repeated").get_attribute("aria-invalid") == "true"
    look.check(window)
    look.shoot(window, "form-with-errors")


def test_names_that_others_choose_are_only_text(look, furnished):
    admin = ApiClient(furnished.url, ADMIN_TOKEN)
    created = admin.post({"name": HOSTILE[:60]}, "/admin/api/keys").json()
    added = {"kind": "openai", "name": HOSTILE[:50], "base_url": "https://hostile.example/v1", "api_key": "sk-x"}
    assert admin.post({**added, "models": [HOSTILE]}, "/admin/api/upstreams").status == 201
    alias = admin.send("PUT", "/admin/api/aliases/%3Cb%3Ealias", b'{"targets": [{"model": "echo"}]}')
    assert alias.status == 200
    client = ApiClient(furnished.url, created["key"], {"user-agent": HOSTILE})
    assert client.create("Hi", model="echo").status == 200
    assert client.create("Hi", model=HOSTILE).status in (404, 502)
    add_requests(furnished.database, [(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 500, HOSTILE, HOSTILE)])
    window = look.open()
    for path in ("overview", "usage/key", "live", "upstreams", "models", "keys", "conversations", "playground"):
        window.goto(f"/dashboard/{path}")
        assert window.locator("main img, main script, main b").count() == 0, path
        if path not in ("overview", "conversations", "usage/key"):
            assert "<img src=x onerror=alert(1)>" in window.locator("main").text_content(), path
        look.check(window)
    window.goto("/dashboard/keys")
    window.click("main table a:has-text('onerror')")
    look.check(window)
