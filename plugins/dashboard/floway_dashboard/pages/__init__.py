"""The pages, one module for each, with its views. The package's docstring says how a page is made."""

from floway_dashboard.pages import (
    access,
    conversations,
    doctor,
    groups,
    keys,
    live,
    models,
    new_upstream,
    overview,
    playground,
    settings,
    signin,
    upstreams,
)

BLUEPRINTS = tuple(
    module.blueprint
    for module in (
        signin,
        overview,
        live,
        upstreams,
        new_upstream,
        models,
        keys,
        groups,
        conversations,
        playground,
        doctor,
        settings,
        access,
    )
)
"""All of them, for ``blueprint.build_blueprint``."""
