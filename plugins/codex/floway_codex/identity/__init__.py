"""Who a request comes from: the ids that the client claims, and those that the plugin derives."""
