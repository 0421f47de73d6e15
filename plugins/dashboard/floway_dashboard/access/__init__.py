"""Who may see and change what: passwords, sessions, roles, and the limit of attempts to sign in."""
