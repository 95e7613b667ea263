"""Accounts: users, credentials, organizations, and their permissions."""
