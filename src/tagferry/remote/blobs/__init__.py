"""Blobs of a registry: download and upload."""
