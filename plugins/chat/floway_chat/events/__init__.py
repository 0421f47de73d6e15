"""Answers, streamed and whole: from Responses to Chat Completions, for clients, and back, for upstreams."""
