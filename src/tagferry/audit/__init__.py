"""The audit records in the database: who did what, on what, from where, and with which result."""
