"""Draws what ``make demo`` prints, for the README. ``make record-demo`` runs this."""

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 112
WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw(output: str) -> str:
    """The SVG of a terminal that shows ``output``, which may hold ANSI escapes. It loads no fonts from the network."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output))
    return WEB_FONT.sub("", console.export_svg(title="make demo", unique_id="demo")).replace("Fira Code, ", "")


if __name__ == "__main__":
    run = subprocess.run(["script", "-qec", "make demo", "/dev/null"], stdout=subprocess.PIPE, text=True, check=True)
    Path(sys.argv[1]).write_text(draw(f"$ make demo\n{run.stdout}"))
