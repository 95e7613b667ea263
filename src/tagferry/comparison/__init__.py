"""What several regions hold: the tags of one repository in each of them, and where one digest is."""
