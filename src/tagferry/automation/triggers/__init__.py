"""Triggers: webhooks called when tags change."""
