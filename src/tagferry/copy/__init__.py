"""The copy engine: a plan is pure data, a run moves what the plan says. Knows only image stores."""
