"""Downloads and uploads of blobs."""
