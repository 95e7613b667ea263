"""Detection of tag changes in repositories."""
