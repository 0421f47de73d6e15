"""``floway codex ...``"""
