"""The copy engine. A plan is pure data; a copy carries it out between two image stores."""
