"""HTTP/1.1 as a client: connections, bodies, proxies. Knows nothing of registries."""
