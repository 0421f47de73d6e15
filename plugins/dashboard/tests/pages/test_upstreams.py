"""The pages about upstreams: what they show, each change, the form of a provider, and signing in."""

import re

import pytest

from floway_core.storage import upstreams
from floway_core.storage.db import select

from ..visitor import NASTY, SHOWN

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
def add(database):
    return lambda name, kind="raven": upstreams.add(database, kind, name)


def path(upstream, *more):
    return "/".join(["/dashboard/upstreams", upstream.id, *more])


def names(database):
    return [row.name for row in upstreams.all_rows(database)]


def new_parrot(operator, **entered):
    page = operator.get("/dashboard/new-upstream/parrot")
    values = {"name": "polly", "base_url": "https://parrots.example/v1", "api_key": "sk-of-polly", **entered}
    return operator.submit(page, "/new-upstream/parrot", values)


# --------------------------------------------------------------------------------------------------------------- shown
def test_the_list_shows_states_with_remedies_and_quotas_as_bars(operator, add):
    add("ready"), add("mute")
    page = operator.get("/dashboard/upstreams")
    assert page.title == "Upstreams" and re.findall(r'scope="row"><a [^>]*>(\w+)', page.text) == ["ready", "mute"]
    assert "It is &lt;i&gt;tired&lt;/i&gt;." in page.text and "Let it sleep." in page.text
    assert 'aria-label="&lt;5 hours&gt; used"' in page.text and 'value="0.4250"' in page.text
    assert "&lt;5 hours&gt;: 42 %" in page.text and 'datetime="2033-05-18T03:33:20+00:00"' in page.text
    assert "a week: unknown yet" in page.text and "<i>" not in page.text


def test_an_upstream_of_a_plugin_that_is_gone_is_shown(operator, add):
    upstream = add("orphan", "dodo")
    page = operator.get(path(upstream))
    assert page.status == 200 and "The plugin of provider &#39;dodo&#39; is not installed." in page.text
    assert operator.submit(page, "/disable").status == 200


def test_what_there_is_not_is_a_page_too(operator):
    for method in (operator.get, lambda path: operator.post(path, {})):
        assert method("/dashboard/upstreams/up_0").status in (403, 404)
    assert operator.get("/dashboard/upstreams/up_0").title == "Not found"
    assert operator.get("/dashboard/new-upstream/nothing").status == 404


# ------------------------------------------------------------------------------------------------------------- changes
def test_enabling_and_disabling(operator, database, add):
    upstream = add("one")
    page = operator.submit(operator.get(path(upstream)), "/disable")
    assert page.notice == "one is disabled." and not upstreams.find(database, "one").enabled
    page = operator.submit(page, "/enable")
    assert page.notice == "one is enabled." and upstreams.find(database, "one").enabled


def test_the_order_changes_by_buttons_and_by_the_place(operator, database, add):
    first, second, third = (add(name) for name in ("one", "two", "three"))
    page = operator.submit(operator.get("/dashboard/upstreams"), f"{third.id}/move")
    assert page.notice == "three is at place 2." and names(database) == ["one", "three", "two"]
    operator.submit(operator.get(path(first)), first.id, {"place": "3"})
    assert names(database) == ["three", "two", "one"]
    answer = operator.submit(operator.get(path(second)), second.id, {"place": "first", "name": "kept"})
    assert answer.status == 400 and "Enter a whole number" in answer.text and 'value="kept"' in answer.text
    assert names(database) == ["three", "two", "one"]


def test_name_and_prefix_change_and_errors_stand_beside_the_field(operator, database, add):
    upstream, _ = add("one"), add("taken")
    page = operator.get(path(upstream))
    answer = operator.submit(page, upstream.id, {"name": NASTY, "prefix": "me"})
    assert answer.status == 200 and SHOWN in answer.text and NASTY not in answer.text
    assert upstreams.find(database, NASTY).prefix == "me"
    answer = operator.submit(page, upstream.id, {"name": "taken", "prefix": "kept"})
    assert answer.status == 400 and 'value="kept"' in answer.text
    assert re.search(r'id="name-hint">There is already an upstream named &#39;taken&#39;', answer.text)
    answer = operator.submit(page, upstream.id, {"name": "x", "prefix": "a b"})
    assert re.search(r'id="prefix-hint">A prefix has letters', answer.text)
    assert 'aria-invalid="true"' in answer.text and upstreams.find(database, NASTY).prefix == "me"


def test_a_test_says_what_came_of_it(operator, add):
    good, bad = add("ready"), add("mute")
    assert operator.submit(operator.get(path(good)), "/test").notice == "ready answers, and serves 1 models."
    answer = operator.submit(operator.get(path(bad)), "/test")
    assert "It says nothing." in answer.text and "Check the address https://parrots.example/v1" in answer.text


def test_removing_asks_first(operator, database, add):
    upstream = add(NASTY)
    question = operator.submit(operator.get(path(upstream)), "/remove")
    assert question.title == f"Remove the upstream {SHOWN}?" and names(database) == [NASTY]
    answer = operator.submit(question, "/remove")
    assert answer.path == "/dashboard/upstreams" and names(database) == []


def test_a_viewer_sees_everything_and_changes_nothing(operator, viewer, database, add):
    upstream, page = add("one"), None
    page = operator.get(path(upstream))
    for show in ("/dashboard/upstreams", path(upstream), "/dashboard/new-upstream", "/dashboard/new-upstream/parrot"):
        shown = viewer.get(show)
        assert shown.status == 200 and re.findall(r'<form[^>]* action="([^"]*)"', shown.text) == ["/dashboard/sign-out"]
    assert "42 %" in viewer.get(path(upstream)).text
    token = viewer.get("/dashboard/upstreams").form("/sign-out")[1]
    paths = [action for action in re.findall(r'action="([^"]*)"', page.text) if "sign-out" not in action]
    assert len(paths) >= 4
    for action in (*paths, path(upstream, "enable"), "/dashboard/new-upstream/parrot"):
        answer = viewer.post(action, {**token, "name": "two", "confirmed": "yes"})
        assert answer.status == 403 and "Viewers" in answer.text, action
    assert names(database) == ["one"]


# ------------------------------------------------------------------------------------------------------------- by form
def test_an_upstream_is_added_by_the_form_of_its_provider(gateway, operator, database):
    page = operator.get("/dashboard/new-upstream")
    assert "With a URL and an API key." in page.text and "Sign in to an account" in page.text
    entered = {"headers": "X-Team: birds", "models": "a\nb", "options.mood": "grumpy", "options.is_loud": "yes"}
    answer = new_parrot(operator, prefix="p", **entered)
    assert answer.title == "polly" and answer.notice.startswith("The upstream polly is added. It answers")
    assert "sk-of-polly" not in answer.text and "birds" not in answer.text and "x-team" in answer.text
    upstream = upstreams.find(database, "polly")
    stored = select(database, "SELECT base_url, models_json, options_json, api_key FROM upstream_connections")[0]
    assert (upstream.kind, upstream.prefix, stored[0]) == ("parrot", "p", "https://parrots.example/v1")
    assert stored[1:3] == ('["a","b"]', '{"mood":"grumpy","is_loud":true}') and "sk-of-polly" not in stored[3]


def test_an_upstream_that_does_not_work_is_added_and_explained(operator, database):
    answer = new_parrot(operator, name="mute parrot")
    assert answer.notice.startswith("The upstream mute parrot is added. It does not work yet. It says nothing. Check ")
    assert names(database) == ["mute parrot"]


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("base_url", "http://parrots.example", "an https URL"),
        ("base_url", "", "an https URL"),
        ("headers", "host: x", "host cannot be set"),
        ("name", "", "The name of an upstream"),
        ("prefix", "a b", "A prefix has letters"),
        ("api_key", "two words", "This is no API key"),
        ("options.mood", "sad", "Expected one of cheerful, grumpy."),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_input_is_kept(operator, database, field, value, problem):
    entered = {"models": "kept-model", "options.mood": "grumpy", "api_key": "sk-kept-nowhere", field: value}
    answer = new_parrot(operator, **entered)
    assert answer.status == 400 and names(database) == []
    assert re.search(rf'id="{re.escape(field)}-hint">[^<]*{re.escape(problem)}', answer.text)
    assert "kept-model" in answer.text and "sk-kept-nowhere" not in answer.text
    assert field == "options.mood" or '<option value="grumpy" selected>' in answer.text


def test_how_an_upstream_is_reached_changes_and_secrets_stay_or_go(operator, database):
    new_parrot(operator, headers="X-Team: birds", models="a")
    upstream = upstreams.find(database, "polly")

    def stored():
        row = select(database, "SELECT base_url, models_json, options_json, api_key, headers FROM upstream_connections")
        return row[0]

    page, before = operator.get(path(upstream)), stored()
    answer = operator.submit(
        page, upstream.id, {"base_url": "https://new.example", "models": "", "options.mood": "grumpy"}
    )
    assert answer.notice == "polly is changed."
    assert stored()[:3] == ("https://new.example", "[]", '{"mood":"grumpy","is_loud":false}')
    assert stored()[3] is not None and "x-team" in answer.text
    answer = operator.submit(answer, upstream.id, {"no_key": "yes", "no_headers": "yes"})
    assert stored()[3] is None and "x-team" not in answer.text and before[4] != stored()[4]
    answer = operator.submit(answer, upstream.id, {"base_url": "ftp://x"})
    assert answer.status == 400 and "an https URL" in answer.text and 'value="ftp://x"' in answer.text
    assert stored()[0] == "https://new.example"


def test_an_upstream_that_needs_nothing_is_added_by_its_name(operator, database):
    page = operator.get("/dashboard/new-upstream/echo")
    answer = operator.submit(page, "/new-upstream/echo", {"name": "mirror"})
    assert answer.notice == "The upstream mirror is added. It answers, and serves 1 models."


# ------------------------------------------------------------------------------------------------------------- sign-in
def begin(operator, name=""):
    page = operator.get("/dashboard/new-upstream/raven/sign-in")
    return operator.submit(page, "/raven/sign-in", {"name": name})


def test_the_url_that_the_sign_in_ends_on_is_pasted(operator, database):
    page = begin(operator, "work")
    assert 'href="https://ravens.example/sign-in?a=1&amp;b=2"' in page.text and "noreferrer" in page.text
    assert "https://ravens.example/back?" in page.text and "the secret of the state" not in page.text
    answer = operator.submit(page, "/finish", {"pasted": "https://ravens.example/back?code=1"})
    assert answer.notice == "Signed in: work can serve." and names(database) == ["work"]


def test_a_wrong_url_can_be_pasted_again(operator, database):
    answer = operator.submit(begin(operator, "work"), "/finish", {"pasted": f"https://elsewhere.example/{NASTY}"})
    assert answer.status == 400 and re.search(r'id="pasted-hint">That is another URL.', answer.text)
    assert SHOWN in answer.text and NASTY not in answer.text and names(database) == []
    answer = operator.submit(answer, "/finish", {"pasted": "https://ravens.example/back?code=1"})
    assert answer.notice == "Signed in: work can serve."


def test_a_ticket_that_is_damaged_begins_again(operator, database):
    answer = operator.submit(begin(operator), "/finish", {"ticket": "x", "pasted": "https://ravens.example/back?"})
    assert answer.status == 400 and "This sign-in is no longer valid. Begin again." in answer.text
    assert answer.form("/raven/sign-in")[1]["name"] == "" and names(database) == []


def test_signing_in_again_keeps_the_name(operator, database, add):
    upstream = add("work")
    page = operator.get(path(upstream))
    link = re.search(r'href="([^"]+sign-in[^"]*)"', page.text)[1].replace("&amp;", "&")
    page = operator.get(link)
    assert page.title == "Sign in to work"
    page = operator.submit(page, "/raven/sign-in")
    answer = operator.submit(page, "/finish", {"pasted": "https://ravens.example/back?code=1"})
    assert answer.path == path(upstream) and names(database) == ["work"]


def test_there_is_no_sign_in_where_the_provider_has_none(operator):
    page = operator.get("/dashboard/new-upstream/parrot/sign-in")
    answer = operator.submit(page, "/parrot/sign-in")
    assert answer.status == 400 and "There is no sign-in" in answer.text
    token = page.form("/sign-out")[1]
    assert operator.post("/dashboard/new-upstream/raven", {**token, "name": "x"}).status == 404
