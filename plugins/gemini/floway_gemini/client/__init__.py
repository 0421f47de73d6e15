"""The client side: requests of generateContent API clients, and the answers to them."""
