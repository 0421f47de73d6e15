"""Read from the environment whether and how to export traces and metrics."""

from collections.abc import Mapping

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)

# The SDK has no constants for these two: only launchers read them.
OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER = "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"

PROTOCOL = "http/protobuf"


def exports_traces(environ: Mapping[str, str]) -> bool:
    """Return whether an endpoint for traces is configured.

    :raises ValueError: the environment demands an unsupported exporter or protocol.
    """
    return _exports(
        environ, OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
    )


def exports_metrics(environ: Mapping[str, str]) -> bool:
    """Return whether an endpoint for metrics is configured.

    :raises ValueError: as ``exports_traces``.
    """
    return _exports(
        environ, OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_PROTOCOL
    )


def _exports(environ: Mapping[str, str], exporter: str, endpoint: str, protocol: str) -> bool:
    """Return whether one signal is exported.

    :param exporter, endpoint, protocol: names of the variables.
    """
    exporter_name = environ.get(exporter) or "otlp"
    is_disabled = environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true"
    has_endpoint = environ.get(endpoint) or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT)
    if is_disabled or exporter_name == "none" or not has_endpoint:
        return False
    if exporter_name != "otlp":
        raise ValueError(f"{exporter} is {exporter_name!r}; it may be otlp or none")
    name = protocol if environ.get(protocol) else OTEL_EXPORTER_OTLP_PROTOCOL
    if environ.get(name, PROTOCOL) != PROTOCOL:
        raise ValueError(f"{name} is {environ[name]!r}; it may be {PROTOCOL} only")
    return True


def read_number(environ: Mapping[str, str], name: str, default: int) -> int:
    """Return a positive integer of the environment; the default if it is not one, as the SDK does."""
    value = environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) > 0 else default
