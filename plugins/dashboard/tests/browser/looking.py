"""Windows of a browser, and what must be true of every page in one."""

import os
from pathlib import Path

from ..visitor import PASSWORD, VIEWER_PASSWORD

BROWSER = os.environ.get("FLOWAY_TEST_BROWSER", "")
AXE = os.environ.get("FLOWAY_TEST_AXE", "")
"""The script of axe-core, which knows the rules of accessibility."""

DESKTOP, PHONE = (1280, 800), (390, 844)

RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}

IS_TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Looking:
    """All windows of a test."""

    def __init__(self, browser, gateway, cookies, shots):
        self.browser, self.gateway, self.cookies, self.shots = browser, gateway, cookies, Path(shots)
        self.contexts, self.faults = [], []

    @classmethod
    def sign_in_both(cls, browser, gateway):
        """Sign in as operator and as viewer; return the cookies of both."""
        kept = {}
        for role, password in (("operator", PASSWORD), ("viewer", VIEWER_PASSWORD)):
            context = browser.new_context(base_url=gateway.url)
            window = context.new_page()
            window.goto("/dashboard")
            window.fill("#password", password)
            window.click("button[type=submit]")
            window.wait_for_selector("nav")
            kept[role] = context.storage_state()
            context.close()
        return kept

    def open(self, size=DESKTOP, *, scheme="light", role="operator", script=True, **options):
        """Return a new window."""
        context = self.browser.new_context(
            base_url=self.gateway.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            java_script_enabled=script,
            storage_state=self.cookies.get(role),
            reduced_motion="reduce",
            **options,
        )
        context.set_default_timeout(60_000)
        window = context.new_page()
        window.on("console", self._note_message)
        window.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        window.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        window.on("request", self._note_request)
        self.contexts.append(context)
        return window

    def _note_message(self, message):
        # The browser says in the console when an answer is an error, which tests provoke.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console: {message.text}")

    def _note_request(self, request):
        if not request.url.startswith((self.gateway.url, "data:")):
            self.faults.append(f"request to {request.url}")

    def check(self, window):
        """Check that a page fits its window and that everybody can use it."""
        assert not window.evaluate(IS_TOO_WIDE), f"{window.url} is wider than its window"
        assert window.locator("h1").count() == 1 and window.locator("main").count() == 1
        window.evaluate(Path(AXE).read_text())
        found = window.evaluate("rules => axe.run(document, rules)", RULES)
        told = [f"{fault['id']}: {node['html']}" for fault in found["violations"] for node in fault["nodes"]]
        assert told == [], "\n".join((window.url, *told))

    def shoot(self, window, name):
        """Keep a picture of the whole page."""
        self.shots.mkdir(parents=True, exist_ok=True)
        window.screenshot(path=self.shots / f"{name}.png", full_page=True)

    def finish(self):
        """Close all windows. Nothing may have gone wrong in them."""
        for context in self.contexts:
            context.close()
        assert self.faults == []
