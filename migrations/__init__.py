"""Core's schema, one numbered migration after the other (installed as ``floway_core.migrations``)."""
