"""Setting variables in a file of lines ``NAME=value``, whose comments and other lines stay."""

import re
from collections.abc import Mapping


def set_dotenv_values(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with ``values``. Of several lines for a variable, the last one counts and is changed."""
    lines = text.splitlines()
    for name, value in values.items():
        assigns = re.compile(rf"\s*(?:export\s+)?{re.escape(name)}\s*=")
        matches = [index for index, line in enumerate(lines) if assigns.match(line)]
        if matches:
            lines[matches[-1]] = f"{name}={value}"
        else:
            lines.append(f"{name}={value}")
    return "\n".join(lines) + "\n"
