"""The upstream side: requests to upstreams with the generateContent API, and their answers."""
