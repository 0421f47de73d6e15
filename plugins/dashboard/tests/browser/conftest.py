"""A real browser that looks at a gateway with invented data. ``make test-dashboard`` says where the browser is."""

import os
from pathlib import Path

import pytest

from floway_core.testing import RunningGateway

from ..conftest import set_passwords
from ..invented import set_up
from ..visitor import ADMIN_TOKEN
from .looking import BROWSER, Looking

SHOTS = Path(os.environ.get("FLOWAY_TEST_SHOTS", ".shots"))
"""The folder for the screenshots."""


@pytest.fixture(scope="session")
def playwright():
    if not BROWSER:
        pytest.skip("FLOWAY_TEST_BROWSER does not name a browser: make test-dashboard")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright):
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def furnished(playwright):
    """A gateway with invented data. The fixture ``playwright`` comes first: nothing starts without a browser."""
    installed = ["dashboard", "echo", "openai"]
    with RunningGateway({"admin_token": ADMIN_TOKEN}, installed=installed) as gateway:
        set_passwords(gateway)
        assert gateway.run("echo", "add", "mirror").returncode == 0
        set_up(gateway)
        yield gateway


@pytest.fixture(scope="session")
def cookies(browser, furnished):
    """The cookies of an operator and of a viewer, by role."""
    return Looking.sign_in_both(browser, furnished)


@pytest.fixture
def look(browser, furnished, cookies):
    """Opens windows, which are closed after the test; nothing may have gone wrong in them."""
    looking = Looking(browser, furnished, cookies, SHOTS)
    yield looking
    looking.finish()
