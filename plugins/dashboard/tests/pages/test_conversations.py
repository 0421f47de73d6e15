"""The pages about conversations: their sizes and times without their texts, in parts, and deleting one."""

import re

import pytest

from floway_core.administration import conversations, keys
from floway_core.storage import upstreams
from floway_core.testing import ApiClient


@pytest.fixture
def client(gateway, database):
    upstreams.add(database, "echo", "mirror")
    yield ApiClient(gateway.url, keys.create(database, "laptop"))
    keys.delete(database, "laptop")
    upstreams.remove(database, "mirror")


def talk(client, text="A secret question", **more):
    answer = client.create(text, model="echo", **more)
    assert answer.status == 200, answer.body
    return answer.json()["id"]


def path(database):
    return f"/dashboard/conversations/{keys.find(database, 'laptop').id}"


def ids(page):
    return re.findall(r'scope="row"><code class="wrap">([^<]*)', page.text)


def test_conversations_are_listed_by_key_without_their_texts(operator, client, database):
    first = talk(client)
    second = talk(client, "Another secret", previous_response_id=first)
    page = operator.get("/dashboard/conversations")
    assert f'href="{path(database)}"' in page.text and "laptop" in page.text
    page = operator.get(path(database))
    assert page.title == "Conversations of laptop" and ids(page) == [second]
    assert re.search(r'class="number">2</td>', page.text) and "secret" not in page.text
    assert "KiB in the database" in page.text or " B in the database" in page.text


def test_the_list_comes_in_parts(operator, client, database, monkeypatch):
    key_id = keys.find(database, "laptop").id
    with database.connection_context():
        for number in range(conversations.PAGE_SIZE + 3):
            database.execute_sql(
                "INSERT INTO responses_conversations (api_key_id, used_at, stored_bytes, public_id, created_at) "
                "VALUES (?, 1, 10, ?, 1)",
                [key_id, f"conv_{number}"],
            )
    page = operator.get(path(database))
    assert len(ids(page)) == conversations.PAGE_SIZE and ">Newest<" not in page.text
    older = re.search(r'rel="next" href="([^"]+)"', page.text)[1]
    rest = operator.get(older)
    assert ids(rest) == ["conv_2", "conv_1", "conv_0"] and ">Newest<" in rest.text and ">Older<" not in rest.text
    assert operator.get(f"{path(database)}?before=x").status == 200
    assert "There are no further ones." in operator.get(f"{path(database)}?before=0").text


def test_deleting_one_asks_first(operator, client, database):
    kept, gone = talk(client), talk(client)
    page = operator.get(path(database))
    assert ids(page) == [gone, kept]
    question = operator.submit(page, "/delete")
    assert question.title == f"Delete the conversation {gone}?" and client.get(f"/v1/responses/{gone}").status == 200
    answer = operator.submit(question, "/delete")
    assert ids(answer) == [kept] and answer.path == path(database)
    assert client.get(f"/v1/responses/{gone}").status == 404 and client.get(f"/v1/responses/{kept}").status == 200
    assert client.create("And?", model="echo", previous_response_id=gone).status == 400
    assert operator.submit(question, "/delete").status == 404


def test_a_viewer_deletes_nothing(viewer, client, database):
    kept = talk(client)
    page = viewer.get(path(database))
    assert ids(page) == [kept] and re.findall(r'action="([^"]*)"', page.text) == ["/dashboard/sign-out"]
    sent = {**page.form("/sign-out")[1], "conversation": kept, "confirmed": "yes"}
    assert viewer.post(f"{path(database)}/delete", sent).status == 403
    assert client.get(f"/v1/responses/{kept}").status == 200


def test_another_key_has_its_own_conversations(operator, client, database):
    kept = talk(client)
    other = keys.find(database, "test").id
    token = operator.get("/dashboard/conversations").form("/sign-out")[1]
    sent = {**token, "conversation": kept, "confirmed": "yes"}
    assert operator.post(f"/dashboard/conversations/{other}/delete", sent).status == 404
    assert client.get(f"/v1/responses/{kept}").status == 200
    assert operator.get("/dashboard/conversations/key_0").status == 404
