"""Copies without a server, for `tagferry copy`: between registries, OCI layouts and archives."""
