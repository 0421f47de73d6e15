"""Setting up clients: what a plugin says about a client, so that ``floway setup`` can make it use this gateway."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from floway_core.client_setup.dotenv import set_dotenv_values
from floway_core.client_setup.jsonc import set_json_values
from floway_core.client_setup.toml import set_toml_values

__all__ = [
    "KEY_VARIABLE",
    "CheckRequest",
    "ClientSetup",
    "SetupFile",
    "SetupTarget",
    "set_dotenv_values",
    "set_json_values",
    "set_toml_values",
]

KEY_VARIABLE = "FLOWAY_API_KEY"
"""The environment variable of the client's shell that holds the API key, where no file holds it."""


@dataclass(frozen=True)
class SetupTarget:
    """What a client is to use."""

    url: str
    """Scheme, host and port of the gateway, without a path and a slash at the end."""
    model: str
    """The model by the name that clients request."""
    key: str | None = None
    """The API key; None: the configuration refers to the variable ``KEY_VARIABLE``."""


@dataclass(frozen=True)
class SetupFile:
    """A configuration file of a client, and what it has to contain."""

    path: Path
    edit: Callable[[str], str]
    """Returns the new text of the file for the present one, which is empty if there is no file. Everything else in it
    stays, comments included. It raises ``ValueError``, which says what is wrong, if the text is not understood."""


@dataclass(frozen=True)
class CheckRequest:
    """A small request in the client's API."""

    path: str
    """The path below the gateway's address."""
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers besides ``content-type``, with the key among them."""


class ClientSetup(ABC):
    """How one client is set up."""

    name: ClassVar[str]
    """Its name in ``floway setup NAME``; unique."""
    title: ClassVar[str]
    """Its name for people."""
    start: ClassVar[str] = ""
    """The command that starts it; empty if it is not a program."""

    def files(self, target: SetupTarget, environ: Mapping[str, str]) -> Sequence[SetupFile]:
        """Return its configuration files.

        :param environ: the environment of the user, which may say where the files are.
        """
        return ()

    def variables(self, target: SetupTarget) -> Mapping[str, str]:
        """Return the environment variables that it needs besides its files. Values may refer to ``$FLOWAY_API_KEY``."""
        return {}

    @abstractmethod
    def check(self, target: SetupTarget) -> CheckRequest:
        """Return a small request as the client would send it.

        :param target: with a key.
        """
