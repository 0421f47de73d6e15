"""Every page, at the width of a desk and of a phone, with light and dark colours, with and without JavaScript."""

import re

import pytest

from .looking import DESKTOP, PHONE

PAGES = {
    "overview": "/dashboard/overview",
    "usage": "/dashboard/usage/key?period=7d",
    "live": "/dashboard/live",
    "upstreams": "/dashboard/upstreams",
    "upstream": "first link in /dashboard/upstreams",
    "new-upstream": "/dashboard/new-upstream",
    "new-upstream-form": "/dashboard/new-upstream/openai",
    "models": "/dashboard/models",
    "alias": "/dashboard/models/alias",
    "keys": "/dashboard/keys",
    "key": "first link in /dashboard/keys",
    "new-key": "/dashboard/keys/new",
    "groups": "/dashboard/groups",
    "group": "first link in /dashboard/groups",
    "conversations": "/dashboard/conversations",
    "playground": "/dashboard/playground",
    "doctor": "/dashboard/doctor",
    "settings": "/dashboard/settings",
    "access": "/dashboard/access",
    "nothing": "/dashboard/nothing",
}


def open_page(window, path):
    """Open a page; some are found behind the first link in the table of another."""
    start = path.removeprefix("first link in ")
    window.goto(start)
    if start != path:
        window.locator("main table tbody a").first.click()
        window.wait_for_url(lambda url: not url.endswith(start))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_everybody_can_use_it(look, name):
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        window = look.open(size, scheme=scheme)
        open_page(window, PAGES[name])
        look.check(window)
        look.shoot(window, f"{name}-{size[0]}-{scheme}")


@pytest.mark.parametrize("size, scheme", [(PHONE, "light"), (DESKTOP, "dark")])
def test_the_page_to_sign_in(look, size, scheme):
    window = look.open(size, scheme=scheme, role="stranger")
    window.goto("/dashboard")
    look.check(window)
    look.shoot(window, f"sign-in-{size[0]}-{scheme}")


def test_all_pages_work_without_javascript(look):
    window = look.open(PHONE, script=False)
    for name, path in PAGES.items():
        open_page(window, path)
        assert window.locator("h1").inner_text() != "Error", name
    window.goto("/dashboard/overview")
    look.shoot(window, "overview-without-script")


def test_a_viewer_sees_all_pages_and_no_button_that_changes(look):
    window = look.open(role="viewer")
    for name in ("overview", "live", "upstreams", "models", "keys", "conversations", "playground", "access"):
        open_page(window, PAGES[name])
        posts = window.locator("form[method=post]").evaluate_all("forms => forms.map(form => form.action)")
        assert [path for path in posts if not path.endswith("/sign-out")] == [], name
    look.shoot(window, "access-viewer")


def test_the_keyboard_reaches_the_content_and_shows_where_it_is(look):
    window = look.open()
    window.goto("/dashboard/overview")
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.className") == "skip"
    window.keyboard.press("Enter")
    assert window.evaluate("document.activeElement.id") == "content"
    window.keyboard.press("Tab")
    focused = "getComputedStyle(document.activeElement)"
    assert window.evaluate(f"{focused}.outlineStyle + {focused}.outlineWidth") == "solid2px"


def test_the_menu_says_which_page_is_open(look):
    window = look.open()
    for name in ("overview", "usage/key", "groups", "new-upstream", "settings", "doctor"):
        window.goto(f"/dashboard/{name}")
        assert window.locator("[aria-current=page]").count() == 1
    assert window.locator("[aria-current=page]").inner_text().strip() == "Doctor"


def test_the_picture_of_the_readme(look):
    window = look.open((1280, 820))
    window.goto("/dashboard/overview")
    look.shots.mkdir(parents=True, exist_ok=True)
    window.screenshot(path=look.shots / "dashboard.png")
    assert re.search(r"\d", window.locator(".tiles").inner_text())
