"""The use cases of synchronization, shared by all interfaces."""
