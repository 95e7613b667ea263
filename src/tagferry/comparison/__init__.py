"""The content of several regions: the tags of one repository in each of them, and where one digest is."""
