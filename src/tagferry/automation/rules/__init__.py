"""Rules that synchronize tags automatically."""
