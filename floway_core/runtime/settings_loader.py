"""Read settings from environment variables and an optional TOML file, and describe them for the operator."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from floway_core.settings import CORE_SETTINGS, PREFIX, Setting, Settings, SettingsError, path

CONFIG_FILE = PREFIX + "CONFIG"
HIDDEN = "(hidden)"

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
"""Environment variables with the gateway's address, key and model for clients. They may be set in the same
shell, but are not settings of the server."""


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
            continue  # containers set empty variables for missing values
        name = variable.removeprefix(PREFIX).lower()
        if name in settings:
            texts[name] = (value, "environment")
        elif name.endswith("_file") and (setting := settings.get(name.removesuffix("_file"))) and setting.secret:
            if environ.get(setting.variable):
                raise SettingsError(f"{setting.variable} and {variable} are both set; remove one of them.")
            texts[setting.name] = (_read_secret_file(Path(value), variable), variable)
        elif not is_client_variable(variable):
            raise SettingsError(f"{variable} is not a setting.{_suggest(name, settings)}")
    return texts


def is_client_variable(variable: str) -> bool:
    """Whether ``variable`` is in ``CLIENT_VARIABLES``, with or without a final ``_FILE``."""
    return variable.removesuffix("_FILE") in CLIENT_VARIABLES


def _suggest(name: str, settings: Mapping[str, Setting]) -> str:
    # A high cutoff, because the setting may belong to a plugin that is not installed.
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
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SettingsError(f"{CONFIG_FILE}: {name} cannot be read: {reason}") from None
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
    """Return all settings with their effective values as texts. Secrets and passwords in URLs are hidden.

    :param declared: the plugins' settings.
    :param environ: the environment, for variables with paths of secret files.
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
            file = Setting(f"{setting.name}_file", path, None, f"A file with the value of {setting.variable}.")
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
