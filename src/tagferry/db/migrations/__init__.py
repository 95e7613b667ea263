"""Alembic's migrations; `tagferry.db.engine` runs them."""
