"""Knowledge about registries that is kept in the database."""
