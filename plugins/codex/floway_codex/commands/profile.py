"""``floway codex profile``: profiles of CLI versions, derived from recordings."""

from pathlib import Path

import click

from floway_codex.recordings.comparison import compare_profiles
from floway_codex.recordings.derivation import Derivation, NoDispatches, derive_profile
from floway_codex.recordings.reading import UnreadableRecording, read_recordings
from floway_codex.recordings.writing import format_profile
from floway_codex.wire.profile import nearest_version, parse_profile, read_profile_files


@click.group()
def profile() -> None:
    """Profiles: how versions of the CLI send requests."""


@profile.command(name="list")
def list_() -> None:
    """Show the versions that have a profile, oldest first."""
    click.echo("\n".join(read_profile_files()))


@profile.command()
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("--nearest", help="The version to compare with. Default: the nearest one that has a profile.")
def make(recordings: tuple[Path, ...], output: Path, nearest: str | None) -> None:
    """Derive the profile of one version from RECORDINGS, files or folders.

    Says what the profile does not express, what the recordings do not show, and how it differs from the nearest one.
    """
    try:
        requests = read_recordings(recordings)
        version = requests[0].version
        others = {name: data for name, data in read_profile_files().items() if name != version}
        compared = nearest or nearest_version(version, others)
        if compared not in others:
            raise click.ClickException(f"There is no other profile {compared}; there are {', '.join(others)}.")
        derivation = derive_profile(requests, others[compared])
        parse_profile(derivation.profile)
    except (UnreadableRecording, NoDispatches) as error:
        raise click.ClickException(str(error)) from None
    output.write_text(format_profile(derivation.profile), encoding="utf-8")
    click.echo(f"{output}: the profile of {version}, from {len(requests)} requests.")
    _show(derivation, compared, compare_profiles(others[compared], derivation.profile))


def _show(derivation: Derivation, compared: str, differences: list[str]) -> None:
    parts = (
        ("Not expressed, requests of this version differ there", derivation.problems),
        (f"Not recorded, so as in {compared}", derivation.borrowed),
        (f"Different from {compared}", differences),
    )
    for title, lines in parts:
        click.echo(f"\n{title}:")
        click.echo("\n".join(f"  {line}" for line in lines or ["nothing"]))
