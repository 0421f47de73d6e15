"""Settings: environment variables and an optional TOML file, read once into a frozen object."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from floway_core.errors import StartupError
from floway_core.protocol import hosts

PREFIX = "FLOWAY_"
CONFIG_FILE = PREFIX + "CONFIG"
HIDDEN = "(hidden)"
METRICS_OFF, METRICS_TOKEN, METRICS_OPEN = "off", "token", "open"

CLIENT_VARIABLES = frozenset(
    PREFIX + name
    for name in (
        "API_BASE",
        "API_BASE_URL",
        "API_ENDPOINT",
        "API_HOST",
        "API_KEY",
        "API_TOKEN",
        "API_TYPE",
        "API_URL",
        "API_VERSION",
        "AUTH_TOKEN",
        "BASE_URL",
        "ENDPOINT",
        "KEY",
        "MODEL",
        "MODEL_NAME",
        "MODELS",
        "ORG_ID",
        "ORGANIZATION",
        "PROJECT",
        "PROJECT_ID",
        "TOKEN",
        "URL",
    )
)
"""Environment variables in which clients look for the gateway's address, key and model. They may be set in the same
shell, but are not settings of the server."""


class SettingsError(StartupError):
    """A setting is unknown or malformed. The message names it."""


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting."""

    name: str
    """Lower case, such as ``codec_url``: environment variable ``FLOWAY_CODEC_URL``, TOML key ``codec_url``."""
    parse: Callable[[str], Any]
    """Converts the text to the value. Raises ``ValueError`` with a description of the expected text."""
    default: Any
    help: str
    """What the setting does, with its unit."""
    secret: bool = False
    """Whether to hide the value in output. ``FLOWAY_<NAME>_FILE`` may name a file that holds the value instead."""

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
    """A number of bytes, or 0."""
    if not re.fullmatch(r"0|[1-9]\d{0,17}", value):
        raise ValueError("a number of bytes")
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


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts one of ``words``, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")
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
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("an https URL")
    if parts.scheme == "http" and not hosts.is_loopback(parts.hostname):
        if not allow_http:
            raise ValueError("an https URL (http only on loopback)")
        if not hosts.is_private(parts.hostname):
            raise ValueError("an https URL (http only in a private network)")
    return value.rstrip("/")


# --------------------------------------------------------------------------------------------------- core's settings
def _setting(parse: Callable[[str], Any], default: Any, help: str, secret: bool = False) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The effective settings of core; ``plugin`` has those of the plugins, by name."""

    data_dir: Path = _setting(path, "~/.floway", "Folder of the database and the generated secret key.")
    database_url: str = _setting(
        text, "", "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME. Default: floway.db in the data folder."
    )
    secret_key: str | None = _setting(
        text,
        None,
        "Encrypts stored credentials. Default: generated once as secret.key in the data folder.",
        secret=True,
    )
    admin_token: str | None = _setting(
        token, None, "Opens /admin/api, which is not there without it. At least 16 characters.", secret=True
    )
    bind: str = _setting(address, "127.0.0.1:8788", "Where `floway serve` listens: HOST:PORT or unix:PATH.")
    workers: int = _setting(count, "2", "Worker processes.")
    threads: int = _setting(count, "1024", "Requests that one worker serves at the same time; more are refused.")
    max_body_bytes: int = _setting(count, str(64 * 2**20), "Largest request body, after decompression, in bytes.")
    max_input_bytes: int | None = _setting(
        count, None, "Largest stored part of a model's input, in bytes. Default: twice FLOWAY_MAX_BODY_BYTES."
    )
    body_memory_bytes: int = _setting(
        count, str(512 * 2**20), "Memory of a worker for the bodies of all its requests, in bytes."
    )
    max_headers: int = _setting(count, "100", "Header fields that a request may have.")
    max_header_bytes: int = _setting(count, str(32 * 2**10), "Largest header field of a request, in bytes.")
    max_idle_connections: int = _setting(
        size, "256", "Connections of one address to a worker that have sent no valid key and wait; 0: no limit."
    )
    client_timeout: float = _setting(
        seconds, "60", "Seconds for which a client may stop sending its request or reading its answer."
    )
    connect_timeout: float = _setting(seconds, "10", "Seconds to connect to an upstream.")
    first_byte_timeout: float = _setting(seconds, "300", "Seconds until an upstream begins to answer.")
    idle_timeout: float = _setting(seconds, "300", "Seconds an upstream may be silent within an answer.")
    failover_window: float = _setting(
        seconds,
        "5",
        "Seconds for which a stream without content yet is held back, while another upstream could take over.",
    )
    total_timeout: float = _setting(seconds, "3600", "Seconds an upstream may take for a whole answer.")
    database_timeout: float = _setting(
        seconds, "10", "Seconds to wait for a connection, a lock or an answer of a database."
    )
    keepalive_interval: float = _setting(seconds, "15", "Seconds of silence after which a stream gets a comment.")
    graceful_timeout: float = _setting(seconds, "120", "Seconds that running streams get to finish at shutdown.")
    retention_days: int = _setting(count, "30", "Days for which a conversation is kept after its last use.")
    abandoned_responses: str = _setting(
        one_of("cancel", "finish"),
        "cancel",
        "What becomes of a response that is to be stored when its client disconnects: cancel or finish.",
    )
    history_cache_bytes: int = _setting(
        size, str(32 * 2**20), "Bytes in which a worker keeps the conversations led by previous_response_id; 0: none."
    )
    max_stored_bytes: int = _setting(
        size, "0", "Bytes that the conversations of one API key may take in the database; 0: no limit."
    )
    log_level: str = _setting(level, "info", "debug, info, warning or error.")
    log_format: str = _setting(one_of("human", "json"), "human", "What log lines look like: human or json.")
    metrics: str = _setting(
        one_of(METRICS_OFF, METRICS_TOKEN, METRICS_OPEN),
        METRICS_TOKEN,
        "Who may read /metrics: nobody (off), who has the admin token (token) or everybody (open).",
    )
    prices: Path | None = _setting(path, None, "A price table in TOML, for the cost of usage.")
    plugin: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def input_limit(self) -> int:
        """Bytes that a request may continue and refer to."""
        return self.max_input_bytes or 2 * self.max_body_bytes

    @property
    def finishes_abandoned(self) -> bool:
        """Whether a response that is to be stored goes on when its client disconnects."""
        return self.abandoned_responses == "finish"

    @property
    def serves_metrics(self) -> bool:
        """Whether anybody may read ``/metrics``."""
        return self.metrics == METRICS_OPEN or (self.metrics == METRICS_TOKEN and self.admin_token is not None)


CORE_SETTINGS = tuple(Setting(f.name, default=f.default, **f.metadata) for f in fields(Settings) if f.metadata)


# ------------------------------------------------------------------------------------------------------------ reading
def load_settings(environ: Mapping[str, str], declared: Iterable[Setting] = ()) -> Settings:
    """Read the settings from ``environ`` and from the TOML file named in ``FLOWAY_CONFIG``; the environment wins.

    Empty variables and the variables of clients (``CLIENT_VARIABLES``) are ignored.

    :param declared: the plugins' settings. They take precedence over client variables of the same name.
    :raises SettingsError: a setting is unknown or malformed.
    """
    settings = {setting.name: setting for setting in (*CORE_SETTINGS, *declared)}
    texts = {**_read_file(environ.get(CONFIG_FILE), settings), **_read_environment(environ, settings)}
    values: dict[str, Any] = {}
    for name, setting in settings.items():
        text, source = texts.get(name, (setting.default, "the default"))
        values[name] = text if text is None or text == "" else _parse(setting, text, source)
    core = {setting.name: values.pop(setting.name) for setting in CORE_SETTINGS}
    core["database_url"] = core["database_url"] or f"sqlite:///{core['data_dir'] / 'floway.db'}"
    return Settings(**core, plugin=MappingProxyType(values))


def _parse(setting: Setting, text: str, source: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as expected:
        value = "the value" if setting.secret or setting.name == "database_url" else repr(text)
        raise SettingsError(f"{setting.variable} ({source}): {value} is not {expected}.") from None


def _read_environment(environ: Mapping[str, str], settings: Mapping[str, Setting]) -> dict[str, tuple[str, str]]:
    """Return (text, source) by name of setting."""
    texts = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE or not value:
            continue  # an empty variable is how containers say "not set"
        name = variable.removeprefix(PREFIX).lower()
        if name in settings:
            texts[name] = (value, "environment")
        elif name.endswith("_file") and (setting := settings.get(name.removesuffix("_file"))) and setting.secret:
            if environ.get(setting.variable):
                raise SettingsError(f"{setting.variable} and {variable} are both set; one of them is enough.")
            texts[setting.name] = (_read_secret_file(Path(value), variable), variable)
        elif not is_client_variable(variable):
            raise SettingsError(f"{variable} is not a setting.{_suggest(name, settings)}")
    return texts


def is_client_variable(variable: str) -> bool:
    """Whether ``variable`` is in ``CLIENT_VARIABLES``, with or without a final ``_FILE``."""
    return variable.removesuffix("_FILE") in CLIENT_VARIABLES


def _suggest(name: str, settings: Mapping[str, Setting]) -> str:
    # A high cutoff: a setting of a plugin that is not installed is not a typing error.
    matches = difflib.get_close_matches(name.removesuffix("_file"), settings, n=1, cutoff=0.8)
    if matches:
        return f" Did you mean {settings[matches[0]].variable}?"
    return " Does it belong to a plugin that is not installed?"


def _read_secret_file(file: Path, variable: str) -> str:
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: the file cannot be read ({error}).") from None
    if not secret:
        raise SettingsError(f"{variable}: the file is empty.")
    return secret


def _read_file(name: str | None, settings: Mapping[str, Setting]) -> dict[str, tuple[str, str]]:
    """Return (text, source) by name of setting."""
    if not name:
        return {}
    try:
        table = tomllib.loads(Path(name).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{CONFIG_FILE}: {name} cannot be read: {error}") from None
    texts = {}
    for key, value in table.items():
        if key not in settings:
            raise SettingsError(f"{name}: {key!r} is not a setting.{_suggest(key, settings)}")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise SettingsError(f"{name}: {key} is not a text or a number.")
        texts[key] = (str(value), name)
    return texts


# ------------------------------------------------------------------------------------------------------------ showing
def describe_settings(
    settings: Settings, declared: Iterable[Setting] = (), environ: Mapping[str, str] = MappingProxyType({})
) -> list[tuple[Setting, str]]:
    """Return every setting with its effective value as text; secrets and passwords in URLs are hidden.

    :param declared: the plugins' settings.
    :param environ: the environment, for the variables that name files of secrets.
    """
    rows = []
    for setting in (*CORE_SETTINGS, *declared):
        value = settings.plugin[setting.name] if setting.name in settings.plugin else vars(settings)[setting.name]
        if value is None:
            rows.append((setting, "(not set)"))
        elif setting.secret:
            rows.append((setting, HIDDEN))
        else:
            rows.append((setting, without_password(str(value))))
        if setting.secret:
            file = Setting(f"{setting.name}_file", path, None, f"A file that holds {setting.variable} instead.")
            rows.append((file, environ.get(file.variable) or "(not set)"))
    return rows


def without_password(url: str) -> str:
    """Return ``url`` with its password replaced, in the authority and in the query."""
    parts = urlsplit(url) if "://" in url else None
    if parts is None or not (parts.password or "password=" in parts.query.lower()):
        return url
    if parts.password:
        user, _, host = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{user.split(':')[0]}:***@{host}")
    return urlunsplit(parts._replace(query=re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query)))
