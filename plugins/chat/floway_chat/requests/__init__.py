"""Convert requests with pure functions: from Chat Completions of clients, and to Chat Completions for upstreams."""
