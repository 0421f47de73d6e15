"""The upstream side: requests to upstreams with the Messages API, and their answers."""
