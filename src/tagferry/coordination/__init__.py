"""Coordination of the processes of one database: membership, named locks, leader election and messages."""
