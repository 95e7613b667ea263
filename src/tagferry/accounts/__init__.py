"""Who may do what: users, access keys, tokens and organizations."""
