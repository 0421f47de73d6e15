"""The pages, one module for each, with its views. The package's docstring says how a page is made."""

from floway_dashboard.pages import access, installation, live, overview, playground, signin

BLUEPRINTS = (
    signin.blueprint,
    overview.blueprint,
    live.blueprint,
    playground.blueprint,
    installation.blueprint,
    access.blueprint,
)
"""All of them, for ``blueprint.build_blueprint``."""
