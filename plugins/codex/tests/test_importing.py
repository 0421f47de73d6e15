"""Imports: what is stored, what is refused, and that no token shows."""

import base64
import json

import pytest
from click.testing import CliRunner
from floway_codex.account import accounts, credentials, jwt, status
from floway_codex.account.auth_file import import_account
from floway_codex.commands.accounts import codex
from floway_codex.tables import Accounts

from floway_core import cli
from floway_core.errors import GatewayError
from floway_core.storage import upstreams

from .conftest import auth_json, id_token, segment, token


def test_an_import_makes_an_upstream_with_its_account(services):
    upstream = import_account(services, auth_json())
    assert (upstream.kind, upstream.name, upstream.enabled) == ("codex", "codex-ann@example.com", True)
    account = accounts.require_active(services, upstream.id)
    assert (account.account_id, account.user_id, account.plan) == ("acct-1", "user-1", "plus")
    assert account.email == "ann@example.com"
    assert credentials.read_refresh_token(services, upstream.id).value == "refresh-first"
    stored = credentials.read_access_token(services, upstream.id)
    assert stored.value.endswith(".access-first") and stored.expires_at == jwt.read_expiry(stored.value)


def test_importing_again_keeps_upstream_and_installation_and_heals(services):
    upstream = import_account(services, auth_json(), "work")
    before = accounts.find_account(services, upstream.id)
    assert accounts.terminate(services, upstream.id, accounts.REFRESH_FAILED, "x", 1)
    assert credentials.read_access_token(services, upstream.id) is None

    again = import_account(services, auth_json("second", plan="pro", email="new@example.com"))
    assert again == upstream and len(upstreams.all_rows(services.database)) == 1
    account = accounts.require_active(services, upstream.id)
    assert (account.plan, account.email) == ("pro", "new@example.com")
    assert account.installation_id == before.installation_id
    refresh = credentials.read_refresh_token(services, upstream.id)
    assert (refresh.value, refresh.version) == ("refresh-second", 2)
    assert credentials.read_access_token(services, upstream.id).value.endswith(".access-second")


def test_a_second_account_is_a_second_upstream_even_under_one_email(services):
    first = import_account(services, auth_json())
    second = import_account(services, auth_json("other", account="acct-2-and-more"))
    assert (first.name, second.name) == ("codex-ann@example.com", "codex-ann@example.com-acct-2-a")
    installations = {accounts.find_account(services, upstream.id).installation_id for upstream in (first, second)}
    assert len(installations) == 2


def test_names_that_do_not_fit_are_refused_and_nothing_is_stored(services):
    import_account(services, auth_json(), "work")
    with pytest.raises(GatewayError, match="already an upstream named 'work'") as taken:
        import_account(services, auth_json(account="acct-2"), "work")
    assert taken.value.status == 409
    with pytest.raises(GatewayError, match="already the upstream 'work'"):
        import_account(services, auth_json(), "play")
    with services.database.connection_context():
        assert Accounts.select().count(services.database) == 1
    assert len(upstreams.all_rows(services.database)) == 1


def test_the_account_goes_with_its_upstream(services):
    upstream = import_account(services, auth_json())
    upstreams.remove(services.database, upstream.name)
    with pytest.raises(GatewayError, match="no account"):
        accounts.find_account(services, upstream.id)
    assert credentials.read_refresh_token(services, upstream.id) is None
    assert import_account(services, auth_json()).id != upstream.id


def test_no_token_is_readable_in_the_database(services):
    upstream = import_account(services, auth_json())
    services.database.close_all()
    stored = b"".join(file.read_bytes() for file in services.settings.data_dir.glob("floway.db*"))
    tokens = auth_json()["tokens"]
    for secret in ("refresh-first", "access-first", "id-token-text", tokens["id_token"].split(".")[1]):
        assert secret.encode() not in stored
        assert base64.b64encode(secret.encode()).rstrip(b"=")[:-1] not in stored
    # What is not secret is there, so the right files were read.
    assert b"ann@example.com" in stored and upstream.id.encode() in stored


def without(name):
    broken = auth_json()
    del broken["tokens"][name]
    return broken


def with_id_token(value):
    broken = auth_json()
    broken["tokens"]["id_token"] = value
    return broken


AUTH = {"chatgpt_account_id": "a", "chatgpt_user_id": "u", "chatgpt_plan_type": "plus"}


@pytest.mark.parametrize(
    "broken, message",
    [
        ([], "no ChatGPT sign-in"),
        ({"OPENAI_API_KEY": "sk-secret", "tokens": None}, "no ChatGPT sign-in"),
        (without("access_token"), "tokens.access_token"),
        (without("refresh_token"), "tokens.refresh_token"),
        (without("id_token"), "tokens.id_token"),
        (with_id_token("SECRET.SECRET"), "not a JWT"),
        (with_id_token("a.!SECRET.c"), "not a JWT"),
        (with_id_token("a.SECRETS.c"), "claims cannot be read"),
        (with_id_token(f"a.{segment([])}.SECRET"), "claims are no object"),
        (with_id_token(token("SECRET", email="x@y.z")), "account id"),
        (with_id_token(token("SECRET", **{"https://api.openai.com/auth": {"chatgpt_account_id": "a"}})), "user id"),
        (with_id_token(token("SECRET", **{"https://api.openai.com/auth": AUTH})), "email"),
    ],
)
def test_unusable_files_are_refused_without_quoting_them(services, broken, message):
    with pytest.raises(ValueError, match=message) as refused:
        import_account(services, broken)
    assert "SECRET" not in str(refused.value) and "refresh-first" not in str(refused.value)
    assert upstreams.all_rows(services.database) == []


def test_the_email_may_be_in_the_profile_claim(services):
    claims = {"https://api.openai.com/auth": AUTH, "https://api.openai.com/profile": {"email": "p@example.com"}}
    assert import_account(services, with_id_token(token("x", **claims))).name == "codex-p@example.com"


def test_padded_and_unpadded_claims_are_read():
    claims = base64.urlsafe_b64encode(b'{"a":1}').decode()
    assert claims.endswith("=")
    assert jwt.decode_claims(f"x.{claims}.y") == jwt.decode_claims(f"x.{claims.rstrip('=')}.y") == {"a": 1}


@pytest.mark.parametrize("exp", [None, "1", True, -5, 0, 1e400, 2**60, [1]])
def test_an_expiry_that_is_no_instant_is_unknown(exp):
    assert jwt.read_expiry(f"x.{segment({'exp': exp})}.y") is None


# ------------------------------------------------------------------------------------------------------- commands
@pytest.fixture
def run(services, monkeypatch):
    monkeypatch.setattr(cli, "services", lambda context: services)

    def call(*arguments, **options):
        return CliRunner().invoke(codex, arguments, catch_exceptions=False, **options)

    return call


def test_importing_a_file_and_standard_input(run, tmp_path, services):
    file = tmp_path / "auth.json"
    file.write_text(json.dumps(auth_json()))
    done = run("import", str(file), "--name", "work")
    assert done.output == "work: ann@example.com, plan plus, account acct-1\n" and done.exit_code == 0
    done = run("import", "-", input=json.dumps(auth_json(account="acct-2")))
    assert done.output.startswith("codex-ann@example.com: ") and done.exit_code == 0
    assert len(upstreams.all_rows(services.database)) == 2


@pytest.mark.parametrize(
    "content", ['{"tokens": {"access_token": "SECRET", ', "SECRET", '{"tokens": "SECRET"}', "\ufeff{}"]
)
def test_a_bad_file_is_one_line_and_no_secret(run, content):
    done = run("import", "-", input=content)
    assert done.exit_code == 1 and done.output.startswith("Error: Th") and "SECRET" not in done.output
    assert done.output.count("\n") == 1


def test_a_missing_file(run):
    assert run("import", "no-such-file").exit_code == 2


def test_status_shows_everything_but_secrets(run, services):
    assert "no Codex account" in run("status").output
    upstream = import_account(services, auth_json())
    import_account(services, auth_json(lifetime=None, account="acct-2"), "second")
    accounts.terminate(services, upstream.id, accounts.SESSION_TERMINATED, "Signed out.", 1)
    shown, found = run("status").output, json.loads(run("status", "--json").output)
    assert "session_terminated (Signed out.)" in shown and "floway codex import FILE" in shown
    assert "expiry unknown" in shown and "ann@example.com" in shown
    assert [one["account_id"] for one in found] == ["acct-1", "acct-2"]
    assert [one["token_expires_at"] for one in found] == [None, 0]
    for secret in ("refresh-first", "access-first", "id-token-text", "gAAAA", id_token().split(".")[1]):
        assert secret not in shown + json.dumps(found)


def test_status_leaves_out_what_has_no_account(run, services):
    """Removed between one query and the next."""
    upstreams.add(services.database, "codex", "ghost")
    import_account(services, auth_json())
    assert [one["account_id"] for one in json.loads(run("status", "--json").output)] == ["acct-1"]


def test_moments_are_told_in_two_units():
    assert status.format_time(1000 + 2 * 3600 + 5 * 60, 1000) == "in 2 h 5 min (1970-01-01 02:21 UTC)"
    assert status.format_time(1000, 1000 + 3 * 86400 + 60) == "3 d 1 min ago (1970-01-01 00:16 UTC)"
    assert status.format_duration(59) == "less than a minute"
