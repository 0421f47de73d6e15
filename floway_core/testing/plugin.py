"""Installing a plugin for a test without pip."""

from pathlib import Path


def write_plugin(folder: Path, name: str, source: str) -> None:
    """Make ``folder``, once it is on the import path, hold the plugin ``name``: a module with ``source``.

    The module is called ``<name>_plugin``, so that it hides no other. Several plugins may share a folder.
    """
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}_plugin.py").write_text(source, encoding="utf-8")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[floway]\n{name} = {name}_plugin\n")
