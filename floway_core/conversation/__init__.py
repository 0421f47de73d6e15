"""The stateful side of Responses: conversations that are loaded, continued, forked, compacted and kept for a time."""
