"""How the processes of one database know of each other: membership and messages."""
