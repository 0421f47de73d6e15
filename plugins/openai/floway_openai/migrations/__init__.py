"""The plugin's schema migrations, in the order of their numbers."""
