"""What is rendered once for many requests, and other shortcuts for usual requests, give what the long way gives."""

import random

import pytest
from floway_codex.wire import items, templates
from floway_codex.wire.input_state import InputState
from floway_codex.wire.profile import REQUEST_PLACEHOLDERS, Profile, load_profiles
from floway_codex.wire.request import add_authorization
from floway_codex.wire.templates import Fields, in_random_order

PROFILES = list(load_profiles().values())


def sections(profile: Profile) -> list[Fields]:
    fields = [profile.responses_headers, profile.models_headers, profile.turn_metadata, profile.client_metadata]
    return [*fields, profile.token_headers, profile.token_body, profile.body, *profile.items.values()]


def render_each(fields: Fields, values: dict) -> dict:
    """Render each field on its own."""
    rendered = {}
    for name, alternatives in fields.templates:
        found = [value for template in alternatives if (value := template.render(values)) is not None]
        if found:
            rendered[name] = found[0]
    return rendered


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.version)
def test_fields_render_as_each_of_them(profile):
    chance = random.Random(profile.version)
    for _ in range(300):
        values = {name: chance.choice([None, "a", "b", False, True, 7]) for name in REQUEST_PLACEHOLDERS}
        values |= {name: chance.choice([None, "a", "b"]) for name in templates.STEADY if chance.random() < 0.9}
        for fields in sections(profile):
            rendered = fields.render(values)
            assert list(rendered.items()) == list(render_each(fields, values).items())


def test_renderings_are_independent_and_not_kept_without_end():
    fields = Fields([("model", "{model}"), ("other", "{turn_id}", "none")])
    fields.render({"model": "m"})["model"] = "changed"
    assert fields.render({"model": "m"}) == {"model": "m", "other": "none"}
    for number in range(3 * templates.MAX_STEADY):
        assert fields.render({"model": str(number), "turn_id": "t"}) == {"model": str(number), "other": "t"}
    assert len(fields._rendered) <= templates.MAX_STEADY


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.version)
@pytest.mark.parametrize("others", [{}, {"traceparent": "00-1"}, {"x-new": "1", "traceparent": "00-1"}])
def test_the_access_token_has_its_place_among_the_headers(profile, others):
    chance = random.Random(len(others))
    name, template = profile.authorization
    for _ in range(50):
        names = [one for one in profile.responses_headers.names if one != name and chance.random() < 0.7]
        prepared = {**dict.fromkeys(names, "value"), **others}
        made = add_authorization(profile, prepared, "t")
        assert made == {**prepared, name: template.render({"access_token": "t"})}
        assert [one for one in made if one != name] == list(prepared)
        order = profile.responses_headers.names
        assert [one for one in made if one in order] == [one for one in order if one in made]


PART = {"type": "input_text", "text": "Hi"}
MESSAGE = {"type": "message", "role": "user", "content": [PART]}


@pytest.mark.parametrize(
    "part", [PART, {**PART, "text": None}, {**PART, "type": "text"}, {**PART, "annotations": []}, "x", None]
)
@pytest.mark.parametrize(
    "changes", [{}, {"role": "system"}, {"id": "x"}, {"status": None}, {"content": "Hi"}, {"type": None}]
)
def test_plain_messages_are_converted_like_others(monkeypatch, part, changes):
    given = [{**MESSAGE, "content": [part], **changes}, {**MESSAGE, "content": [part, part], **changes}]
    short = items.convert_input(given, InputState())
    monkeypatch.setattr(items, "_is_plain_message", lambda item: False)
    assert short == items.convert_input(given, InputState())
    assert [list(item) for item in short] == [list(item) for item in items.convert_input(given, InputState())]


def test_random_orders_only_depend_on_the_seed_and_the_names():
    few, many = ({f"name {number}": number for number in range(count)} for count in (9, 90))
    for fields in (few, many):
        orders = {tuple(in_random_order(fields, seed)) for seed in range(20)}
        assert len(orders) == 20 and in_random_order(fields, 3) == fields
        assert list(in_random_order(fields, 7)) == list(in_random_order(fields, 7 + templates.SEEDS))
