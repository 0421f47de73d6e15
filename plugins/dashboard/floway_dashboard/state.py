"""The services of the gateway, for the views."""

from flask import current_app

from floway_core.contexts import Services

EXTENSION = "floway_dashboard"


def current_services() -> Services:
    """Return the services of the gateway that serves the current request."""
    services: Services = current_app.extensions[EXTENSION]
    return services
