"""The embedded registry: image stores on disk, and the OCI distribution API over them."""
