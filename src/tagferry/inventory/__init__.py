"""What each region has: organizations, repositories and tags, from the records and from the registries."""
