"""What upstreams with the Messages API get, and what they send."""
