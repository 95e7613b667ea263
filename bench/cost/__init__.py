"""What a change costs: this tagferry beside another one, in CPU seconds."""
