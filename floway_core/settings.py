"""Declare settings: the types of their values, and the settings of core. ``runtime.settings_loader`` reads them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from floway_core.errors import StartupError
from floway_core.prices import PriceTable, read_price_table
from floway_core.protocol import hosts

PREFIX = "FLOWAY_"
METRICS_OFF, METRICS_TOKEN, METRICS_OPEN = "off", "token", "open"

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which prometheus_client finds the folder that all workers share."""


class SettingsError(StartupError):
    """A setting is unknown or malformed. The message names it."""


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting."""

    name: str
    """Lower case, such as ``codec_url``: environment variable ``FLOWAY_CODEC_URL``, TOML key ``codec_url``."""
    parse: Callable[[str], Any]
    """Converts the text to the value. Raises ``ValueError`` with a description of valid texts."""
    default: Any
    help: str
    """What the setting does, with its unit."""
    secret: bool = False
    """Whether to hide the value in output. ``FLOWAY_<NAME>_FILE`` may name a file with the value instead."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


# ------------------------------------------------------------------------------------------------------ value types
# Functions for ``Setting.parse``, named for the type of the value.
def text(value: str) -> str:
    """A text that is not empty."""
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value


def path(value: str) -> Path:
    """A path; ``~`` is the home folder."""
    return Path(text(value)).expanduser().absolute()


def count(value: str) -> int:
    """A whole number, at least 1."""
    if not re.fullmatch(r"[1-9]\d{0,17}", value):
        raise ValueError("a whole number from 1")
    return int(value)


def size(value: str) -> int:
    """A whole number, at least 0."""
    if not re.fullmatch(r"0|[1-9]\d{0,17}", value):
        raise ValueError("a whole number from 0")
    return int(value)


def seconds(value: str) -> float:
    """A positive number of seconds."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value) or not float(value):
        raise ValueError("a positive number of seconds")
    return float(value)


def address(value: str) -> str:
    """``HOST:PORT`` or ``unix:PATH``."""
    if re.fullmatch(r"unix:.+", value):
        return value
    host, _, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare and f"[{bare}]" != host) or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError("HOST:PORT, [IPV6]:PORT or unix:PATH")
    return value


def level(value: str) -> str:
    """A log level."""
    if value.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError("debug, info, warning or error")
    return value.lower()


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts one of ``choices``, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"{', '.join(choices[:-1])} or {choices[-1]}")
        return value.lower()

    return parse


def token(value: str) -> str:
    """A secret that fits into an HTTP header."""
    if not re.fullmatch(r"[!-~]{16,}", value):
        raise ValueError("at least 16 characters of printable ASCII without spaces")
    return value


def origin_url(value: str, allow_http: bool = False) -> str:
    """An ``https`` URL, or ``http`` on loopback, because credentials are sent there. The final slash is removed.

    :param allow_http: accept ``http`` in a private network, too.
    """
    try:
        parts = urlsplit(value)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:  # the host or the port is malformed
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("an https URL")
    if parts.scheme == "http" and not hosts.is_loopback(host):
        if not allow_http:
            raise ValueError("an https URL (http only on loopback)")
        if not hosts.is_private(host):
            raise ValueError("an https URL (http only in a private network)")
    return value.rstrip("/")


def database_url(value: str) -> str:
    """The URL of an SQLite file or of a PostgreSQL database."""
    scheme, _, rest = value.partition("://")
    try:
        parts = urlsplit(value)
        is_postgresql = scheme in ("postgres", "postgresql") and parts.path.strip("/") != "" and parts.port != 0
    except ValueError:  # the host or the port is malformed
        is_postgresql = False
    if not is_postgresql and not (scheme == "sqlite" and rest.startswith("/") and ":memory:" not in rest):
        raise ValueError("sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")
    return value


def price_table(value: str) -> PriceTable:
    """A file with a price table."""
    try:
        return read_price_table(path(value))
    except ValueError as error:
        raise ValueError(f"a price table ({error})") from None


# --------------------------------------------------------------------------------------------------- core's settings
def _setting(parse: Callable[[str], Any], default: Any, help: str, secret: bool = False) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The effective settings of core; ``plugin`` has those of the plugins, by name."""

    data_dir: Path = _setting(path, "~/.floway", "Folder of the database and the generated secret key.")
    database_url: str = _setting(
        database_url,
        "",
        "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME. Default: floway.db in the data folder.",
    )
    secret_key: str | None = _setting(
        text,
        None,
        "Encrypts stored credentials. Default: generated once as secret.key in the data folder.",
        secret=True,
    )
    admin_token: str | None = _setting(
        token, None, "Token for /admin/api, which does not exist without it. At least 16 characters.", secret=True
    )
    bind: str = _setting(address, "127.0.0.1:8788", "Where `floway serve` listens: HOST:PORT or unix:PATH.")
    workers: int = _setting(count, "2", "Worker processes.")
    threads: int = _setting(count, "1024", "Requests that one worker serves at the same time; more are refused.")
    max_body_bytes: int = _setting(count, str(64 * 2**20), "Largest request body, after decompression, in bytes.")
    max_input_bytes: int | None = _setting(
        count, None, "Largest stored part of a model's input, in bytes. Default: twice FLOWAY_MAX_BODY_BYTES."
    )
    body_memory_bytes: int = _setting(
        count, str(512 * 2**20), "Memory of a worker for bodies, and for stored data that requests load, in bytes."
    )
    max_headers: int = _setting(count, "100", "Header fields that a request may have.")
    max_header_bytes: int = _setting(count, str(32 * 2**10), "Largest header field of a request, in bytes.")
    max_idle_connections: int = _setting(
        size, "256", "Idle connections of one address to a worker that have sent no valid key; 0: no limit."
    )
    client_timeout: float = _setting(
        seconds, "60", "Seconds for which a client may pause while it sends a request or reads an answer."
    )
    connect_timeout: float = _setting(seconds, "10", "Seconds to connect to an upstream.")
    first_byte_timeout: float = _setting(seconds, "300", "Seconds until the first byte of an upstream's answer.")
    idle_timeout: float = _setting(seconds, "300", "Seconds for which an upstream may pause within an answer.")
    failover_window: float = _setting(
        seconds,
        "5",
        "Seconds for which a stream without content is held back while another upstream could serve the request.",
    )
    total_timeout: float = _setting(seconds, "3600", "Seconds for a complete answer of an upstream.")
    database_timeout: float = _setting(
        seconds, "10", "Seconds to wait for a connection, a lock or an answer of a database."
    )
    keepalive_interval: float = _setting(seconds, "15", "Seconds of silence after which a stream gets a comment.")
    graceful_timeout: float = _setting(seconds, "120", "Seconds that running streams get to finish at shutdown.")
    retention_days: int = _setting(count, "30", "Days for which a conversation is stored after its last use.")
    abandoned_responses: str = _setting(
        one_of("cancel", "finish"),
        "cancel",
        "What to do with a response that is to be stored if its client disconnects: cancel or finish.",
    )
    history_cache_bytes: int = _setting(
        size, str(32 * 2**20), "Memory of a worker for recently used conversations, in bytes; 0: none."
    )
    max_websockets: int = _setting(
        size, "512", "Open WebSockets of a worker; further upgrades get 426, after which clients use POST. 0: none."
    )
    websocket_history_bytes: int = _setting(
        size, str(128 * 2**20), "Memory of a worker for unstored responses of open WebSockets, in bytes."
    )
    max_stored_bytes: int = _setting(
        size, "0", "Size of the conversations of one API key in the database, in bytes; 0: no limit."
    )
    log_level: str = _setting(level, "info", "debug, info, warning or error.")
    log_format: str = _setting(one_of("human", "json"), "human", "Format of log lines: human or json.")
    metrics: str = _setting(
        one_of(METRICS_OFF, METRICS_TOKEN, METRICS_OPEN),
        METRICS_TOKEN,
        "Who may read /metrics: nobody (off), holders of the admin token (token) or everybody (open).",
    )
    prices: PriceTable | None = _setting(price_table, None, "A price table in TOML, for the cost of usage.")
    plugin: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def input_limit(self) -> int:
        """The largest stored part of a model's input, in bytes."""
        return self.max_input_bytes or 2 * self.max_body_bytes

    @property
    def finishes_abandoned(self) -> bool:
        """Whether a response that is to be stored is finished after its client disconnects."""
        return self.abandoned_responses == "finish"

    @property
    def serves_metrics(self) -> bool:
        """Whether anybody may read ``/metrics``."""
        return self.metrics == METRICS_OPEN or (self.metrics == METRICS_TOKEN and self.admin_token is not None)


CORE_SETTINGS = tuple(Setting(f.name, default=f.default, **f.metadata) for f in fields(Settings) if f.metadata)
