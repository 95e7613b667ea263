"""HTTP/1.1 client: connections, bodies and proxies. Independent of registries."""
