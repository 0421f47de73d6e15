"""Read and replace one field of a form (``multipart/form-data``) without changing other bytes."""

import itertools
import re
from email.message import Message

MAX_HEADER_BYTES = 8192
"""Limit for the head of a part."""


def read_boundary(content_type: str) -> bytes | None:
    """Return the boundary between the parts; None if this is not the content type of a form."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        return None
    return boundary.encode("utf-8", "replace")


def find_field(body: bytes, boundary: bytes, name: str) -> tuple[int, int] | None:
    """Return start and end of the value of a text field in a form; None if there is no such field.

    :raises ValueError: the form is malformed, or has several fields of this name.
    """
    # A delimiter is at the start of a line; the preceding line break belongs to it.
    delimiters = list(re.finditer(rb"(?:\A|\r\n)--%b(--)?[ \t]*(?:\r\n|\Z)" % re.escape(boundary), body))
    if not delimiters or delimiters[-1][1] is None:
        raise ValueError("the form does not end with its boundary")
    found = []
    for delimiter, following in itertools.pairwise(delimiters):
        head, separator, _ = body[delimiter.end() : delimiter.end() + MAX_HEADER_BYTES].partition(b"\r\n\r\n")
        if not separator or delimiter[1]:
            raise ValueError("a part of the form has no head")
        start = delimiter.end() + len(head) + len(separator)
        if start > following.start():
            raise ValueError("a part of the form has no body")
        if _field_name(head) == name:
            found.append((start, following.start()))
    if len(found) > 1:
        raise ValueError(f"the form has several fields {name!r}")
    return found[0] if found else None


def add_field(body: bytes, boundary: bytes, name: str, value: str) -> bytes:
    """Return a form with a further text field before the others."""
    head = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    return b"--" + boundary + head.encode() + body


def _field_name(head: bytes) -> str | None:
    """Return the name of the text field whose part has this head; None for a file."""
    message = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            message["content-disposition"] = value.strip()
    if message.get_param("filename", header="content-disposition") is not None:
        return None
    field = message.get_param("name", header="content-disposition")
    return field if isinstance(field, str) else None
