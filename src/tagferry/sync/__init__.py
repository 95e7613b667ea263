"""The use cases around synchronization, shared by every door."""
