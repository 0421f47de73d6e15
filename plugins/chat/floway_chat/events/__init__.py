"""Convert answers, streamed or not: to Chat Completions for clients, and from Chat Completions of upstreams."""
