"""The model list of the simulated backend, read from catalogue.json next to this file."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

JSON = Any


@dataclass(frozen=True)
class Catalogue:
    """The entries in order, and the list's etag."""

    models: tuple[JSON, ...]
    etag: str

    def by_slug(self) -> dict[str, JSON]:
        """Entries by model name."""
        return {entry["slug"]: entry for entry in self.models}


def load_catalogue() -> Catalogue:
    """Read the catalogue; fields are those of the CLI's bundled list, long texts are shortened."""
    text = files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Catalogue(tuple(json.loads(text)["models"]), f'W/"{digest}"')
