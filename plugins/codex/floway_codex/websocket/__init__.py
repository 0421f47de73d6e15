"""The backend's WebSocket: its connections, what is sent over them, and their answers as the body of a response."""
