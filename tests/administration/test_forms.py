"""The form for an upstream: its fields, and how typed texts become values."""

from floway_core.administration import forms
from floway_core.provider import ConnectionOptions, UpstreamOption

DECLARED = ConnectionOptions(
    default_base_url="https://parrots.example/v1",
    key_is_optional=True,
    options=(UpstreamOption("mood", "How it answers.", ("cheerful", "grumpy")), UpstreamOption("is_loud", "Shouts.")),
)
FORM = forms.connection_form(DECLARED)


def test_the_form_has_what_the_provider_declares():
    fields = {field.name: field for field in FORM}
    assert fields["base_url"].default == "https://parrots.example/v1" and not fields["base_url"].required
    assert fields["api_key"].secret and not fields["api_key"].required
    mood = fields["options.mood"]
    assert (mood.label, mood.kind, mood.default) == ("Mood", forms.CHOICE, "cheerful")
    assert mood.choices == ("cheerful", "grumpy")
    assert (fields["options.is_loud"].kind, fields["options.is_loud"].default) == (forms.FLAG, False)
    bare = {field.name: field for field in forms.connection_form(ConnectionOptions())}
    assert bare["base_url"].required and bare["api_key"].required


def test_what_was_typed_becomes_the_fields_of_the_admin_api():
    typed = {
        "base_url": " https://x.example ",
        "api_key": "sk-1",
        "headers": "X-One: a: b\r\n\r\nx-two:2",
        "models": "one\r\n  two \r\n",
        "options.mood": "grumpy",
        "options.is_loud": "on",
        "unknown": "left out",
    }
    assert forms.parse_form(FORM, typed) == {
        "base_url": "https://x.example",
        "allow_http": False,
        "api_key": "sk-1",
        "headers": {"X-One": "a: b", "x-two": "2"},
        "models": ["one", "two"],
        "options": {"mood": "grumpy", "is_loud": True},
    }


def test_what_is_empty_is_left_out_but_for_flags():
    assert forms.parse_form(FORM, {"base_url": "  "}) == {"allow_http": False, "options": {"is_loud": False}}
