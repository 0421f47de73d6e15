"""What a provider declares and reports about its upstreams for the operator: options, problems, quotas, sign-in."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class UpstreamOption:
    """An option of upstreams of one kind, set by the operator: ``--compacts`` on the command line."""

    name: str
    """Lower case, with underscores. The value is in ``Connection.options[name]``."""
    help: str
    """One sentence for the operator."""
    choices: tuple[str, ...] = ()
    """The allowed texts; the first one is the default. Empty for a flag, which is True or False."""

    @property
    def default(self) -> str | bool:
        """The value if the operator sets none."""
        return self.choices[0] if self.choices else False


@dataclass(frozen=True)
class ConnectionOptions:
    """The fields that the operator sets for an upstream with a URL and an API key.

    Core then provides the rest: commands, the admin API, the encrypted storage, and the base class
    ``floway_core.upstream.keyed.KeyedProvider``.
    """

    default_base_url: str | None = None
    """The URL if the operator sets none; None if it is required."""
    example_base_url: str = "https://api.example.com/v1"
    """An example for the help of the command line."""
    key_is_optional: bool = False
    """Whether upstreams without a key are allowed."""
    options: tuple[UpstreamOption, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Why an upstream cannot serve. Everybody may read it, so it names no secret and no account."""

    reason: str
    """A sentence that says what is wrong."""
    remedy: str = ""
    """What the operator can do about it, in whole sentences; empty if there is nothing to do, or the reason says it."""

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}".rstrip()


@dataclass(frozen=True)
class Quota:
    """How much of a limit of its account an upstream has used, as last reported. Only for display."""

    name: str
    """Which limit, such as ``5 hours``; unique among those of an upstream."""
    used: float | None = None
    """The share that is used, from 0 to 1, or more; None if unknown."""
    resets_at: int | None = None
    """Unix time in seconds at which nothing of it is used again; None if unknown."""
    reported_at: int | None = None
    """Unix time in seconds of the report; None if unknown."""
    note: str = ""
    """What else there is to say, in a few words."""


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has begun: the operator signs in on a page, and pastes the URL that the browser ends on."""

    url: str
    """The page to open."""
    ends_on: str
    """The beginning of the URL that the browser ends on."""
    state: str = field(repr=False)
    """What ``Provider.finish_sign_in`` needs to know of the beginning. The gateway keeps it encrypted."""
