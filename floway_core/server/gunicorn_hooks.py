"""Base classes that give public names to the private methods of gunicorn that the server overrides.

This is the only file that uses private names of gunicorn. There are no public alternatives:

* ``Request._peer_is_trusted_proxy``: gunicorn trusts every client of a Unix socket.
* ``Request._apply_header_policy``: gunicorn drops headers with an underscore in their name, or refuses the request.
* ``Request._parse_fast``: the parser in C accepts line ends without CR and folded headers.
* ``Response._emit_body``: gunicorn sends the head of a response on its own, ahead of the body.

Checked with gunicorn 26.2.0 and 27.0.1. setup.cfg excludes the next major version, and
tests/test_library_insides.py fails if one of these methods disappears or changes its signature.
"""

from typing import Any

from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader
from gunicorn.http.wsgi import Response

POLICED_NAMES = frozenset({"HOST", "CONTENT-TYPE", "EXPECT"})
"""Names of headers that ``Request._apply_header_policy`` looks at, beside those with an underscore and those of trusted
proxies. It leaves all others alone."""


class HookedRequest(Request):  # type: ignore[misc]  # gunicorn has no annotations
    """A request whose parsing steps can be overridden."""

    body: Any
    """A binary file."""

    def is_from_trusted_proxy(self) -> bool:
        """Return whether forwarding headers of the peer are trusted."""
        return bool(super()._peer_is_trusted_proxy())

    def filter_header(self, name: str, value: str, *state: Any, from_trailer: bool = False) -> tuple[str, str] | None:
        """Check one header.

        :param name: in upper case.
        :param state: gunicorn's further arguments, to be passed on.
        :param from_trailer: whether it came after the body.
        :returns: name and value for the application; None drops the header.
        """
        header: tuple[str, str] | None = super()._apply_header_policy(name, value, *state, from_trailer=from_trailer)
        return header

    def parse_head(self, unreader: Unreader, buffer: bytearray) -> bytes:
        """Parse the head of the request.

        :param buffer: the bytes so far; more are appended until the head is complete.
        :returns: the bytes that follow the head.
        """
        rest: bytes = super()._parse_fast(unreader, buffer)
        return rest

    def __init_subclass__(cls) -> None:
        """Give the overridden steps gunicorn's names. A method in between would be called for every header."""
        super().__init_subclass__()
        cls._peer_is_trusted_proxy = cls.is_from_trusted_proxy
        cls._apply_header_policy = cls.filter_header
        cls._parse_fast = cls.parse_head


class HookedResponse(Response):  # type: ignore[misc]  # gunicorn has no annotations
    """A response whose body can be sent in another way."""

    def send_body(self, data: bytes) -> None:
        """Send a piece of the body, in a chunk if the response is chunked."""
        super()._emit_body(data)

    def __init_subclass__(cls) -> None:
        """Give the overridden step gunicorn's name."""
        super().__init_subclass__()
        cls._emit_body = cls.send_body
