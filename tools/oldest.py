"""Print the oldest supported version of some libraries, as ``setup.cfg`` states it: one requirement on each line.

python tools/oldest.py gunicorn flask urllib3 peewee
"""

import configparser
import sys
from pathlib import Path

from packaging.requirements import Requirement

SETUP = Path(__file__).parent.parent / "setup.cfg"


def oldest(libraries: list[str]) -> list[str]:
    """Return ``NAME[EXTRA]==VERSION`` for each library, with the lower bound as the version.

    :raises StopIteration: a library is not required, or without a lower bound.
    """
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    lines = setup["options"]["install_requires"].splitlines()
    requirements = {(each := Requirement(line)).name: each for line in lines if line and not line.startswith("#")}
    pinned = []
    for library in libraries:
        requirement = requirements[library]
        version = next(bound.version for bound in requirement.specifier if bound.operator == ">=")
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pinned.append(f"{library}{extras}=={version}")
    return pinned


if __name__ == "__main__":
    print("\n".join(oldest(sys.argv[1:])))
