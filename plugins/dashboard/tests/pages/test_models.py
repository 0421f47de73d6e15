"""The page about models, and aliases: created, changed and removed."""

import re
import urllib.parse

import pytest

from floway_core.administration import aliases
from floway_core.storage import upstreams

NASTY = "<script>/../?a=1&\"%2F'"
SHOWN = "&lt;script&gt;/../?a=1&amp;&#34;%2F&#39;"


@pytest.fixture(autouse=True)
def birds(database):
    upstreams.add(database, "raven", "one")
    upstreams.add(database, "raven", "t@wo", "p")
    yield
    for row in upstreams.all_rows(database):
        upstreams.remove(database, row.name)
    for row in aliases.all_rows(database):
        aliases.remove(database, row.name)


def create(operator, name, targets, **more):
    page = operator.get("/dashboard/models/alias")
    return operator.submit(page, "/models/alias", {"name": name, "targets": targets, **more})


def test_models_are_listed_with_what_serves_them(operator):
    page = operator.get("/dashboard/models")
    assert page.title == "Models" and "&lt;b&gt;me&lt;/b&gt;" in page.text
    assert re.findall(r'scope="row"><code class="wrap">([^<]*)', page.text) == ["parrot-1", "p/parrot-1"]
    assert '<div>t@wo as <code class="wrap">parrot-1</code></div>' in page.text


def test_an_alias_is_created_changed_and_removed(operator, database):
    page = create(operator, NASTY, "p/parrot-1@t@wo\nparrot-1", effort="low")
    assert page.path == "/dashboard/models" and SHOWN in page.text and NASTY not in page.text
    row = aliases.find(database, NASTY)
    assert [tuple(target.values()) for target in row.targets] == [("p/parrot-1", "t@wo"), ("parrot-1", None)]
    page = operator.get(f"/dashboard/models/alias?name={urllib.parse.quote(NASTY)}")
    assert page.title == f"The alias {SHOWN}" and "p/parrot-1@t@wo\nparrot-1</textarea>" in page.text
    assert operator.submit(page, "/alias/change", {"targets": "other", "effort": ""}).status == 200
    row = aliases.find(database, NASTY)
    assert (row.targets, row.effort) == ([{"model": "other", "upstream": None}], None)
    page = operator.get("/dashboard/models")
    assert ">not served<" in page.text
    question = operator.submit(page, "/alias/remove")
    assert question.title == f"Remove the alias {SHOWN}?" and aliases.find(database, NASTY)
    assert operator.submit(question, "/alias/remove").path == "/dashboard/models"
    assert aliases.all_rows(database) == []


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("name", "", "The name of a model"),
        ("name", "taken", "There is already an alias"),
        ("targets", "", "An alias has 1 to"),
        ("targets", "parrot-1@nowhere", "There is no upstream named"),
        ("effort", "two words", "is a word such as"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_input_is_kept(operator, database, field, value, problem):
    aliases.put(database, "taken", [("parrot-1", None)])
    answer = create(operator, **{"name": "kept-name", "targets": "kept-target", "verbosity": "kept-word", field: value})
    assert answer.status == 400 and re.search(rf'id="{field}-hint">[^<]*{problem}', answer.text)
    for name, kept in (("name", "kept-name"), ("targets", "kept-target"), ("verbosity", "kept-word")):
        assert name == field or kept in answer.text
    assert [row.name for row in aliases.all_rows(database)] == ["taken"]
    assert aliases.find(database, "taken").targets[0]["model"] == "parrot-1"


def test_an_alias_that_there_is_not(operator):
    assert operator.get("/dashboard/models/alias?name=nothing").status == 404
    token = operator.get("/dashboard/models").form("/sign-out")[1]
    for action in ("change", "remove"):
        answer = operator.post(f"/dashboard/models/alias/{action}", {**token, "name": "n\0 \uffff"})
        assert answer.status == 404 and answer.title == "Not found"


def test_a_viewer_sees_everything_and_changes_nothing(viewer, database):
    aliases.put(database, "fast", [("parrot-1", None)])
    for shown in ("/dashboard/models", "/dashboard/models/alias?name=fast"):
        page = viewer.get(shown)
        assert re.findall(r'action="([^"]*)"', page.text) == ["/dashboard/sign-out"]
    token = page.form("/sign-out")[1]
    for action in ("alias", "alias/change", "alias/remove"):
        sent = {**token, "name": "fast", "targets": "x", "confirmed": "yes"}
        assert viewer.post(f"/dashboard/models/{action}", sent).status == 403
    assert aliases.find(database, "fast").targets[0]["model"] == "parrot-1"
