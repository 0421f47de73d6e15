"""What clients of the generateContent API send, and what they get."""
