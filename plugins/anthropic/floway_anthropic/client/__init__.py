"""What clients of the Messages API send, and what they get."""
