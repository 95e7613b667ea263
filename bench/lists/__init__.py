"""Measure the cost of the management API's lists, with up to 10,000 repositories and 1,000,000 jobs."""
