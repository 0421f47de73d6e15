"""The host of the gateway as the CLI describes it, for requests of clients that are not a codex CLI."""

import dataclasses
import functools
import os
import platform
import re
from collections.abc import Mapping
from typing import Any

from floway_codex.wire import profile
from floway_codex.wire.profile import Profile
from floway_core.settings import SettingsError

AUTO = "auto"
SANDBOXES = {"Darwin": "seatbelt", "Linux": "seccomp", "Windows": "windows_sandbox"}
"""System -> the sandbox of the CLI there."""
ARCHITECTURES = {"AMD64": "x86_64", "ARM64": "arm64"}
"""Names of ``platform.machine()`` that the CLI spells otherwise."""
DISTRIBUTIONS = {"arch": "Arch Linux", "fedora": "Fedora", "rhel": "Red Hat Enterprise Linux", "ubuntu": "Ubuntu"}
"""``ID`` in os-release -> the name that the CLI uses; others begin with a capital letter."""
HOST = re.compile(r"[^;()]+; *[^;()]+; *[^;()\s]+")


def parse_host(value: str) -> str:
    """The setting: ``auto``, or system, architecture and terminal, such as ``Debian 12.0.0; x86_64; xterm-256color``.

    :raises ValueError: it is neither.
    """
    if value != AUTO and not (HOST.fullmatch(value) and value.isascii() and value.isprintable()):
        raise ValueError(f"{AUTO}, or system, architecture and terminal: 'Debian 12.0.0; x86_64; xterm-256color'")
    return value


def default_profile(settings: Mapping[str, Any]) -> Profile:
    """The profile for clients that are no CLI, and for the gateway's own requests, with the values of this host.

    :param settings: those of the plugin.
    :raises SettingsError: there is no such profile.
    """
    profiles = profile.load_profiles(settings["codex_profiles"])
    if settings["codex_profile"] not in (profile.NEWEST, *profiles):
        versions = ", ".join((profile.NEWEST, *profiles))
        raise SettingsError(f"FLOWAY_CODEX_PROFILE: {settings['codex_profile']!r} is not one of {versions}")
    chosen = profile.choose_profile(settings["codex_profile"], settings["codex_profiles"])
    return _on_host(chosen.version, settings["codex_profiles"], settings["codex_host"])


@functools.cache
def _on_host(version: str, folder: str, host: str) -> Profile:
    chosen = profile.load_profiles(folder)[version]
    values = {**chosen.values, **(find_host(os.environ) if host == AUTO else _stated_host(host))}
    return dataclasses.replace(chosen, values=values)


def _stated_host(value: str) -> dict[str, str]:
    system, arch, terminal = (part.strip() for part in value.split(";"))
    sandbox = "Darwin" if system.startswith("Mac") else "Windows" if system.startswith("Windows") else "Linux"
    return {"os": system, "arch": arch, "terminal": terminal, "sandbox": SANDBOXES[sandbox]}


def find_host(environ: Mapping[str, str]) -> dict[str, str]:
    """System, architecture, terminal and sandbox of this host; unknown values are left out."""
    description = {"arch": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": _system()}
    description |= {"terminal": _terminal(environ), "sandbox": SANDBOXES.get(platform.system(), "")}
    return {name: value for name, value in description.items() if value and value.isascii() and value.isprintable()}


def _system() -> str:
    """The system and its version, with three numbers as the CLI writes them."""
    if platform.system() == "Darwin":
        return f"Mac OS {_three_numbers(platform.mac_ver()[0])}"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    name = DISTRIBUTIONS.get(release["ID"], release["ID"].capitalize())
    version = _three_numbers(release.get("VERSION_ID", ""))
    return f"{name} {version or 'Rolling Release'}"


def _three_numbers(version: str) -> str:
    """``12`` as ``12.0.0``, ``24.04`` as ``24.4.0``; empty if there is no number."""
    numbers = [str(int(number)) for number in re.findall(r"\d+", version)[:3]]
    return ".".join([*numbers, "0", "0"][:3]) if numbers else ""


def _terminal(environ: Mapping[str, str]) -> str:
    """The terminal by its variables; empty for a process without one, such as a service."""
    program, version = environ.get("TERM_PROGRAM", ""), environ.get("TERM_PROGRAM_VERSION", "")
    if program and program != "tmux":
        return f"{program}/{version}" if version else program
    return environ.get("TERM", "") if environ.get("TERM") != "dumb" else ""
