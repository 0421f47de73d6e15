"""The Responses protocol as pure functions: no I/O and no framework."""
