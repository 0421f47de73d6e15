"""Signing in by pasting the URL that the browser ends on, and quotas, as pages of the gateway use them."""

import time

import pytest
import requests
from floway_codex import plugin
from floway_codex.account import accounts, quota
from floway_codex.account.auth_file import import_account

from floway_core.administration import sign_in, upstreams
from floway_core.errors import GatewayError
from floway_core.runtime import plugins
from floway_core.runtime.gateway import make_gateway

from .conftest import open_services


@pytest.fixture
def gateway(backend, tmp_path):
    services = open_services(tmp_path, FLOWAY_CODEX_BASE_URL=backend.base_url, FLOWAY_CODEX_AUTH_URL=backend.auth_url)
    manager = plugins.build_plugin_manager(only=[])
    plugins.register_plugin(manager, plugin, "codex")
    yield make_gateway(services, manager)
    services.database.close_all()


def come_back(url):
    """What a browser ends on."""
    with requests.Session() as browser:
        browser.trust_env = False
        return browser.get(url, allow_redirects=False).headers["location"]


def refusal(call, *arguments):
    with pytest.raises(GatewayError) as refused:
        call(*arguments)
    return refused.value.status, refused.value.param


def names(gateway):
    return [state.upstream.name for state in upstreams.list_states(gateway)]


def test_the_pasted_url_adds_an_upstream_that_serves(gateway):
    begun = sign_in.begin(gateway, "codex", "work")
    pasted = come_back(begun.url)
    assert pasted.startswith(begun.ends_on)
    assert sign_in.finish(gateway, begun.ticket, f"  {pasted}\n").name == "work"
    assert upstreams.find_state(gateway, "work").problem is None
    assert len(upstreams.test(gateway, "work")) > 0
    assert refusal(sign_in.finish, gateway, begun.ticket, pasted) == (400, "pasted")  # the code is spent


def test_signing_in_again_renews_the_account(gateway, backend):
    account = backend.new_account(email="ann@example.com")
    upstream = import_account(gateway.services, account, "work")
    accounts.sign_out(gateway.services, upstream.id)
    problem = upstreams.find_state(gateway, "work").problem
    assert problem.reason == "The Codex account is signed_out." and problem.remedy == accounts.SIGN_IN_HINT
    with pytest.raises(GatewayError) as failed:
        upstreams.test(gateway, "work")
    assert upstreams.explain(gateway, upstream, failed.value) == problem
    backend.sign_in_browser(account["tokens"]["account_id"])
    begun = sign_in.begin(gateway, "codex", "work")
    assert sign_in.finish(gateway, begun.ticket, come_back(begun.url)).id == upstream.id
    assert upstreams.find_state(gateway, "work").problem is None


def test_one_account_has_one_upstream(gateway, backend):
    first, second = (backend.new_account(email=f"{name}@example.com") for name in ("ann", "bob"))
    import_account(gateway.services, first, "work")
    backend.sign_in_browser(second["tokens"]["account_id"])
    begun = sign_in.begin(gateway, "codex", "work")  # the browser is signed in as somebody else
    assert refusal(sign_in.finish, gateway, begun.ticket, come_back(begun.url)) == (409, "name")
    backend.sign_in_browser(first["tokens"]["account_id"])
    begun = sign_in.begin(gateway, "codex", "another name")
    assert refusal(sign_in.finish, gateway, begun.ticket, come_back(begun.url)) == (409, "name")
    assert names(gateway) == ["work"]


def test_a_sign_in_ends_after_some_minutes(gateway, monkeypatch):
    begun = sign_in.begin(gateway, "codex")
    pasted, now = come_back(begun.url), time.time()
    monkeypatch.setattr(time, "time", lambda: now + sign_in.SECONDS_TO_FINISH + 1)
    assert refusal(sign_in.finish, gateway, begun.ticket, pasted) == (400, "ticket")
    assert names(gateway) == []


def test_a_url_of_another_sign_in_is_refused(gateway):
    one, other = sign_in.begin(gateway, "codex"), sign_in.begin(gateway, "codex")
    assert refusal(sign_in.finish, gateway, one.ticket, come_back(other.url)) == (400, "pasted")
    assert refusal(sign_in.finish, gateway, one.ticket[:-2], come_back(one.url)) == (400, "ticket")
    sealed = gateway.services.secrets.encrypt('{"purpose": "another"}')
    assert refusal(sign_in.finish, gateway, sealed, come_back(one.url)) == (400, "ticket")
    assert refusal(sign_in.begin, gateway, "nothing") == (400, "kind")


def test_quotas_are_shares_with_reset_times(gateway, backend):
    upstream = import_account(gateway.services, backend.new_account(), "work")
    now = int(time.time())
    window = {"used_percent": 42.5, "window_minutes": 300, "resets_at": now + 600}
    over = {"used_percent": 90.0, "window_minutes": 10080, "resets_at": now - 5}
    refused = {"limit": "extra", "name": "Extra", "refused_until": now + 3600}
    quota.store_limits(
        gateway.services, upstream.id, [{"limit": "codex", "primary": window, "secondary": over}, refused]
    )
    quotas = {one.name: one for one in upstreams.read_quotas(gateway, upstream)}
    assert (quotas["5 h"].used, quotas["5 h"].resets_at, quotas["5 h"].note) == (0.425, now + 600, "")
    assert (quotas["7 d"].used, quotas["7 d"].resets_at) == (0.0, None)
    assert quotas["Extra: requests"].note.startswith("refused until in 59 min")
