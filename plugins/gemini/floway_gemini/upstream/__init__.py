"""What upstreams with the generateContent API get, and what they send."""
