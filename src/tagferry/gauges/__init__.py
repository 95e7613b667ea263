"""Gauges of the state of this process and, if it is the leader, of the database: read for Prometheus only."""
