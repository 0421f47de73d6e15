"""What a process needs before it can serve: plugins, the gateway, the log."""
