"""Stored conversations: load, continue, fork, compact, store and expire them."""
