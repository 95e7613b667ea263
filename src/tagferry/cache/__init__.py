"""What was learned about registries, in the database."""
