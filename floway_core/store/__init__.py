"""Rows of core that outlive a request: API keys and upstreams."""
