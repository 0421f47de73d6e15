"""``python -m floway_core`` is ``floway``."""

from floway_core.cli import main

main()
