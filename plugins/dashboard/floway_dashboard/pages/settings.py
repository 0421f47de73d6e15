"""The settings of the gateway, without secrets."""

import os

from flask import Blueprint, Response

from floway_core.administration.settings import list_settings
from floway_core.web import current_gateway
from floway_dashboard.page import page

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


@blueprint.get("")
def index() -> Response:
    """Show the settings."""
    gateway = current_gateway()
    rows = list_settings(gateway.settings, gateway.manager, os.environ)
    return page("dashboard/settings.html", title="Settings", settings=rows)
