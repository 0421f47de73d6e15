"""Pages of ``input_items`` come to their end, and hold each item once, whatever ids the items have."""

import itertools
from urllib.parse import quote

import pytest

from .direct_store import assistant, user

IDS = {
    "one for all": ["msg_1"] * 9,
    "numbered anew in each answer": ["msg_1", "msg_2", "msg_3"] * 4,
    "neighbours": ["a", "a", "b", "b", "b", "a"],
    "as if they were numbered here": ["x", "x-2", "x", "x-2", "x-3", "x", "x-2-2", "x"],
    "some without": ["m", None, "m", None, None, "m"],
    "of other types": [5, "5", 5, {"a": 1}, True, "", "5", []],
    "long": ["y" * 64, "y" * 64, "z" * 5_000, "z" * 5_000],
    "hard to write in a URL": ["a b", "a b", "ü/?&#=%41", "ü/?&#=%41", "😀", "😀", "a\nb", "a\nb", "\ud83d", "\ud83d"],
}


def items(ids):
    return [user(f"number {place}") | ({} if item_id is None else {"id": item_id}) for place, item_id in enumerate(ids)]


@pytest.fixture
def api(acting, client, openai_package):
    """The openai package as another client with the same key."""
    return openai_package(acting.gateway.url, client.caller.headers["authorization"].removeprefix("Bearer "))


def texts(listed):
    return [item.content[0].text for item in listed]


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [2, *(pytest.param(other, marks=pytest.mark.soak) for other in (1, 5, 100))])
def test_the_package_pages_through_all(client, api, ids, order, limit):
    given = items(IDS[ids])
    told = client.turn(given)
    pages = api.responses.input_items.list(told.id, order=order, limit=limit)
    listed = list(itertools.islice(pages, 3 * len(given)))  # it would go on for ever
    expected = [f"number {place}" for place in range(len(given))]
    assert texts(listed) == (expected if order == "asc" else expected[::-1])
    assert len({item.id for item in listed}) == len(given)


def test_ids_that_repeat_over_turns(client, api):
    """As upstreams do that number their items from one in each answer."""
    previous, expected = None, []
    for number in range(12):
        told = client.turn(f"question {number}", previous, output=[assistant(f"answer {number}", id="msg_1")])
        expected += [f"question {number}", f"answer {number}"]
        previous = told.id
    for limit, order in itertools.product((1, 2, 7), ("asc", "desc")):
        pages = api.responses.input_items.list(previous, limit=limit, order=order)
        listed = texts(itertools.islice(pages, 100))
        assert listed == (expected[:-1] if order == "asc" else expected[-2::-1])


def test_an_id_stands_for_one_position_in_all_pages(client):
    told = client.turn(items(IDS["as if they were numbered here"]))
    whole = client.caller.get(f"/v1/responses/{told.id}/input_items?order=asc").json()["data"]
    assert [item["id"] for item in whole][:2] == ["x", "x-2"], "the first of an id keeps it"
    for place, item in enumerate(whole):
        after = f"after={quote(item['id'])}&limit=100"
        for order, expected in (("asc", whole[place + 1 :]), ("desc", whole[:place][::-1])):
            page = client.caller.get(f"/v1/responses/{told.id}/input_items?{after}&order={order}").json()
            assert page["data"] == expected and page["has_more"] is False


def test_what_is_listed_can_be_sent_again(client, api):
    told = client.turn(items(["msg_1"] * 3))
    listed = [item.to_dict() for item in api.responses.input_items.list(told.id, order="asc")]
    assert texts(api.responses.input_items.list(client.turn(listed).id, order="asc")) == [
        "number 0",
        "number 1",
        "number 2",
    ]


@pytest.mark.parametrize("after", ["", "no", "msg_1-1", "msg_1-9", "-1", "0", "%00", "%FF", "x" * 4000, "msg_1%20"])
def test_a_cursor_of_no_item_is_refused(client, after):
    told = client.turn(items(["msg_1"] * 3))
    answer = client.caller.get(f"/v1/responses/{told.id}/input_items?after={after}")
    assert answer.status == 400 and answer.json()["error"]["param"] == "after"


def test_a_cursor_of_another_response_is_refused(client):
    one, other = client.turn(items(["msg_a"] * 2)), client.turn(items(["msg_b"] * 2))
    cursor = client.caller.get(f"/v1/responses/{one.id}/input_items").json()["last_id"]
    answer = client.caller.get(f"/v1/responses/{other.id}/input_items?after={cursor}")
    assert answer.status == 400 and answer.json()["error"]["param"] == "after"
