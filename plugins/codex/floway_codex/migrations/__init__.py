"""The plugin's schema, one numbered migration after the other."""
