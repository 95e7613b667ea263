"""Rules for automatic synchronization."""
