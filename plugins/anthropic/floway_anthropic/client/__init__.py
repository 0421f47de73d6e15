"""The client side: requests of Messages API clients, and the answers to them."""
