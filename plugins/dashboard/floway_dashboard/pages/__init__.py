"""The pages, one module for each, with its views. The package's docstring says how a page is made."""

from floway_dashboard.pages import access, conversations, keys, models, new_upstream, signin, upstreams

BLUEPRINTS = (
    signin.blueprint,
    upstreams.blueprint,
    new_upstream.blueprint,
    models.blueprint,
    keys.blueprint,
    conversations.blueprint,
    access.blueprint,
)
"""All of them, for ``blueprint.build_blueprint``."""
