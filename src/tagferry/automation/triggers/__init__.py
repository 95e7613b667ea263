"""Triggers, which call webhooks."""
