"""One field of a form is found and replaced, whoever has written the form; all other bytes stay as they are."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata
from werkzeug.formparser import parse_form_data

from floway_core.protocol import multipart

BOUNDARY = "a+b(c)'.-_,/:=? d"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters='\r\n"\\%'), min_size=1, max_size=10)
BYTES = st.binary(max_size=60) | st.sampled_from([b"", b"\r\n", b"\r\n--", b"--x\r\n", b"\r\n\r\n", b"model"])
FIELDS = st.lists(st.tuples(NAMES, BYTES | st.tuples(NAMES, BYTES)), max_size=5)


def read(body, boundary):
    """The form as a web framework reads it: text fields, and files by field."""
    environ = {
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": f'multipart/form-data; boundary="{boundary}"',
        "REQUEST_METHOD": "POST",
    }
    _, form, files = parse_form_data(environ)
    return list(form.items(multi=True)), [(name, file.filename, file.read()) for name, file in files.items(multi=True)]


@given(before=FIELDS, value=st.text(st.characters(codec="utf-8"), max_size=20), after=FIELDS, new=st.sampled_from("xü"))
def test_a_field_is_found_and_replaced(before, value, after, new):
    others = [field for field in (*before, *after) if field[0] != "model"]
    place = sum(field[0] != "model" for field in before)
    fields = [*others[:place], ("model", value.encode()), *others[place:]]
    if any(BOUNDARY.encode() in str(field).encode() for field in others) or BOUNDARY in value:
        return
    body, _ = encode_multipart_formdata(fields, BOUNDARY)
    start, end = multipart.find_field(body, BOUNDARY.encode(), "model")
    assert body[start:end] == value.encode()
    replaced = body[:start] + new.encode() + body[end:]
    assert (
        replaced
        == encode_multipart_formdata([(n, new.encode() if n == "model" else v) for n, v in fields], BOUNDARY)[0]
    )
    without, _ = encode_multipart_formdata(others, BOUNDARY)
    if others:
        assert multipart.find_field(without, BOUNDARY.encode(), "model") is None
        added = multipart.add_field(without, BOUNDARY.encode(), "model", new)
        start, end = multipart.find_field(added, BOUNDARY.encode(), "model")
        assert added[start:end] == new.encode()


@given(FIELDS)
def test_what_is_found_is_what_frameworks_read(fields):
    named = [(f"name-{number}", value) for number, (_, value) in enumerate(fields)]
    body, _ = encode_multipart_formdata([*named, ("model", b"mine")], "boundary")
    if b"--boundary" in b"".join(str(value).encode() for _, value in named):
        return
    start, end = multipart.find_field(body, b"boundary", "model")
    form, _ = read(body[:start] + b"theirs" + body[end:], "boundary")
    assert ("model", "theirs") in form


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"--X", b"\r\n", b"--", b"a: b", b'name="model"',
       b"Content-Disposition: form-data;", b"x"]), max_size=20).map(b"".join))  # fmt: skip
def test_nothing_else_than_a_refusal_comes_of_nonsense(body):
    try:
        place = multipart.find_field(body, b"X", "model")
    except ValueError:
        return
    assert place is None or 0 <= place[0] <= place[1] <= len(body)


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
        ("multipart/form-data; boundary*=utf-8''%C3%A9", None),
    ],
)
def test_the_boundary(header, boundary):
    assert multipart.read_boundary(header) == boundary
