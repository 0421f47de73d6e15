"""Add upstreams to a gateway under test directly in its database, because each command would start Python again."""

from floway_core.storage import upstreams
from floway_core.storage.db import connect
from floway_core.testing import Installation


def add_upstreams(installation: Installation, **kinds: str) -> None:
    """Store upstreams in the order of the arguments.

    :param kinds: the provider kind of each upstream, by its name.
    """
    environ = installation.environ
    database = connect(environ.get("FLOWAY_DATABASE_URL") or f"sqlite:///{environ['FLOWAY_DATA_DIR']}/floway.db")
    for name, kind in kinds.items():
        upstreams.add(database, kind, name)
    database.close_all()
