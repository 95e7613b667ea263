"""Image stores over HTTP: any OCI registry."""
