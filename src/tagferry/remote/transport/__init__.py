"""Requests to a registry: authorization, retries, rate limits."""
