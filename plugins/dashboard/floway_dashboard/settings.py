"""The settings of the plugin."""

from floway_core.settings import Setting, count

SESSION_HOURS = "dashboard_session_hours"

SETTINGS = (Setting(SESSION_HOURS, count, "12", "Hours until a session of the dashboard ends."),)
