"""Flask with less work per request: it answers as Flask does, and finds a fixed path once."""

import pytest
from flask import Flask, g, request, url_for

from floway_core.web.fast_flask import FastFlask, PreparedResponse

REQUESTS = (
    ("GET", "/fixed"),
    ("HEAD", "/fixed"),
    ("OPTIONS", "/fixed"),
    ("POST", "/fixed"),
    ("GET", "/fixed/"),
    ("GET", "/fixed//"),
    ("GET", "/FIXED"),
    ("POST", "/only-post"),
    ("GET", "/only-post"),
    ("GET", "/items/one"),
    ("GET", "/items/two"),
    ("GET", "/items/fixed"),
    ("GET", "/nothing"),
    ("GET", "/%66ixed"),
)


def build(kind):
    app = kind("tested", static_folder=None)
    app.url_map.strict_slashes = app.url_map.merge_slashes = False

    def describe(**arguments):
        rule = request.url_rule.rule
        return {"rule": rule, "arguments": arguments, "host": request.host, "url": url_for("item", name="x")}

    app.add_url_rule("/fixed", endpoint="fixed", view_func=describe)
    app.add_url_rule("/only-post", endpoint="post", view_func=describe, methods=["POST"])
    app.add_url_rule("/items/<name>", endpoint="item", view_func=describe)
    app.add_url_rule("/items/fixed", endpoint="fixed item", view_func=describe)
    return app


def answers(app):
    client = app.test_client()
    for _ in range(2):  # what is remembered changes nothing
        for method, path in REQUESTS:
            answer = client.open(path, method=method)
            yield method, path, answer.status, answer.data, answer.headers.get("allow")


def test_it_answers_as_flask_does():
    assert list(answers(build(FastFlask))) == list(answers(build(Flask)))


def test_a_fixed_path_is_found_once(monkeypatch):
    app, asked = build(FastFlask), []
    make = app.make_url_adapter
    monkeypatch.setattr(app, "make_url_adapter", lambda request: asked.append(request.path) or make(request))
    app.view_functions["fixed"] = app.view_functions["item"] = lambda **_: "no URL is built"
    for _ in range(3):
        for path in ("/fixed", "/items/one", "/nothing"):
            app.test_client().get(path)
    assert asked == ["/fixed", "/items/one", "/nothing", *["/items/one", "/nothing"] * 2]


@pytest.mark.parametrize("add", ["teardown_request", "teardown_appcontext"])
def test_what_is_to_be_called_at_the_end_is_called(add):
    app, ended = build(FastFlask), []
    getattr(app, add)(ended.append)
    app.test_client().get("/fixed")
    assert ended == [None]


def test_hooks_that_are_objects_are_called():
    class Hook:
        def __call__(self):
            g.called = True

    app = build(FastFlask)
    app.before_request(Hook())
    app.view_functions["fixed"] = lambda: str(g.called)
    assert app.test_client().get("/fixed").data == b"True"


def test_a_prepared_response_has_no_body_for_head():
    app = FastFlask("tested", static_folder=None)
    app.add_url_rule("/", view_func=lambda: PreparedResponse(b"content", headers=[("x-a", "b")]))
    whole, head = app.test_client().get("/"), app.test_client().head("/")
    assert (whole.data, head.data) == (b"content", b"")
    assert whole.headers == head.headers
    assert (whole.headers["content-length"], whole.headers["x-a"]) == ("7", "b")
