"""The settings of the plugin. Where and how to export is configured by OpenTelemetry's own variables, ``OTEL_*``."""

from floway_core.settings import Setting, count, one_of

CONTENT = "otel_content"
MAX_CONTENT_BYTES = "otel_max_content_bytes"
PROPAGATE_TO = "otel_propagate_to"


def names(value: str) -> frozenset[str]:
    """Names, separated by commas."""
    return frozenset(name for part in value.split(",") if (name := part.strip()))


SETTINGS = (
    Setting(CONTENT, one_of("on", "off"), "off", "Whether spans contain the texts of conversations: on or off."),
    Setting(MAX_CONTENT_BYTES, count, "16384", "Largest attribute with such texts, in bytes; older texts are dropped."),
    Setting(PROPAGATE_TO, names, "", "Names of the upstreams that continue the trace, separated by commas."),
)
