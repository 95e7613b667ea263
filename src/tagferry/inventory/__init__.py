"""The content of each region: organizations, repositories and tags, from the records and from the registries."""
