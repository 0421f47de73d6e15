"""The plugin's settings."""

import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from floway_codex.websocket.transport import HTTP, WEBSOCKET
from floway_codex.wire import host, profile
from floway_codex.wire.encoding import AUTO, IDENTITY, OFFICIAL_HOST, ZSTD
from floway_core.settings import Setting, count, one_of, origin_url

BASE_PATH = "/backend-api"
TOKEN_PATH = "/oauth/token"
VERSION = re.compile(r"\d+\.\d+\.\d+[0-9A-Za-z.-]*")


def base_url(value: str) -> str:
    """The URL above ``/codex/responses``. An origin gets the official path; a final ``/codex`` is dropped."""
    return _with_path(value, BASE_PATH).removesuffix("/codex")


def token_url(value: str) -> str:
    """The URL of the token endpoint. An origin gets the official path."""
    return _with_path(value, TOKEN_PATH)


def authorize_url(token_url: str) -> str:
    """The URL of the sign-in page, which is next to the token endpoint."""
    return urljoin(token_url, "authorize")


def _with_path(value: str, path: str) -> str:
    url = origin_url(value)
    return url if urlsplit(url).path else url + path


def profile_name(value: str) -> str:
    """The version of a profile, or ``newest``."""
    if value != profile.NEWEST and not VERSION.fullmatch(value):
        raise ValueError(f"one of {', '.join([profile.NEWEST, *profile.load_profiles()])}")
    return value


def profile_folder(value: str) -> str:
    """The folder of the operator's own profiles; empty for none."""
    if value and not Path(value).is_dir():
        raise ValueError("a folder")
    profile.load_profiles(value)
    return value


SETTINGS = (
    Setting("codex_base_url", base_url, f"https://{OFFICIAL_HOST}{BASE_PATH}", "Where the Codex backend is."),
    Setting(
        "codex_auth_url", token_url, f"https://auth.openai.com{TOKEN_PATH}", "Where accounts sign in and renew tokens."
    ),
    Setting("codex_refresh_lease", count, "120", "Seconds after which a process that renews a token counts as dead."),
    Setting("codex_profile", profile_name, profile.NEWEST, "The CLI version as which other clients appear, or newest."),
    Setting("codex_profiles", profile_folder, "", "A folder with further profiles of CLI versions."),
    Setting("codex_host", host.parse_host, host.AUTO, "System, architecture and terminal in the user agent, or auto."),
    Setting(
        "codex_request_encoding",
        one_of(AUTO, ZSTD, IDENTITY),
        AUTO,
        "How request bodies are sent: zstd, identity or auto.",
    ),
    Setting(
        "codex_transport", one_of(AUTO, WEBSOCKET, HTTP), AUTO, "What requests are sent over: websocket, http or auto."
    ),
)
