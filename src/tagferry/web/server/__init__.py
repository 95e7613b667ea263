"""The HTTP server: sockets, HTTP/1.1, and limits on what clients send."""
