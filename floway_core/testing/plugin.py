"""Installing a plugin for a test, without pip."""

from pathlib import Path


def write_plugin(folder: Path, name: str, source: str) -> None:
    """Write a plugin into a folder that tests put on the import path. Several plugins may share a folder.

    :param name: name of the entry point; the module is named ``<name>_plugin``, so that it hides no other.
    :param source: source of the module.
    """
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}_plugin.py").write_text(source, encoding="utf-8")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[floway]\n{name} = {name}_plugin\n")
