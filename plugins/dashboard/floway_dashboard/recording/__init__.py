"""What the dashboard notes of requests by itself: the times until their first bytes, and which ones run."""
