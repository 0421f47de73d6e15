"""The running process: settings, plugins, the gateway object, the log, observers."""
