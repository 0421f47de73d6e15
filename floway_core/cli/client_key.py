"""The API key that a client is set up with: a new one, or an existing one whose text is not stored."""

import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator

import click

from floway_core.cli.context import Session
from floway_core.client_setup import KEY_VARIABLE
from floway_core.storage import keys

KEY = re.compile(re.escape(keys.PREFIX) + r"[A-Za-z0-9_-]{20,}")

HIDDEN = f"{keys.PREFIX}..."
"""Stands for a key in what is shown."""


def hide_keys(text: str) -> str:
    """Return ``text`` without API keys."""
    return KEY.sub(HIDDEN, text)


class ClientKey:
    """A key by its name.

    Only its hash is stored, so its text comes from the client's files, the environment or the user.
    """

    def __init__(self, session: Session, name: str | None, texts: Iterable[str]) -> None:
        """:param name: None for the key in the environment or in the files.
        :param texts: of the client's files, which may hold the key.
        """
        self._session = session
        self._name = name
        self._texts = list(texts)

    @functools.cached_property
    def is_new(self) -> bool:
        """Whether there is no key of this name."""
        if self._name is None:
            return False
        return all(row.name != self._name for row in keys.all_rows(self._session.services.database))

    def create(self) -> str:
        """Create the key and return its text.

        :raises GatewayError: the name is invalid.
        """
        assert self._name is not None
        text = keys.create(self._session.services.database, self._name)
        click.echo(f"The key {self._name!r} is created.", err=True)
        self._texts, self.is_new = [text], False
        return text

    def text_or_placeholder(self) -> str | None:
        """Return the text of the key, or a placeholder for that of a new one; None if no name was given."""
        if self._name is None:
            return None
        return HIDDEN if self.is_new else self._existing_text

    def text(self) -> str:
        """Return the text of the key, creating a new one.

        :raises click.ClickException: there is none.
        """
        if self._name is None:
            text = os.environ.get(KEY_VARIABLE) or next(self._find_texts(), None)
            if not text:
                raise click.ClickException(f"No API key: name one with --key, or set {KEY_VARIABLE}.")
            return text
        return self.create() if self.is_new else self._existing_text

    @functools.cached_property
    def _existing_text(self) -> str:
        """The text of an existing key, prompted for if it is not found. A terminal does not show what is typed."""
        for text in self._find_texts():
            if self._matches(text):
                return text
        question = f"Text of the API key {self._name!r}"
        text = click.prompt(question, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        if not (text := text.strip()):
            raise click.ClickException(
                f"The text of the API key {self._name!r} is missing: set {KEY_VARIABLE} to it, or use standard input."
            )
        if not self._matches(text):
            raise click.ClickException(f"That is not the API key {self._name!r}.")
        return text

    def _find_texts(self) -> Iterator[str]:
        for text in (*self._texts, os.environ.get(KEY_VARIABLE, "")):
            yield from KEY.findall(text)

    def _matches(self, text: str) -> bool:
        key = keys.recognise(self._session.services.database, text)
        return key is not None and key.name == self._name
