"""The cost of a change: this tagferry and another one, in CPU seconds."""
