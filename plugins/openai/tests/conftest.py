"""The fixtures of the kit."""

pytest_plugins = ["floway_core.testing.fixtures"]
