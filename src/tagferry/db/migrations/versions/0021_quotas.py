"""Quotas of organizations that differ from the configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_LIMITS = ("byte_limit", "repository_limit", "upload_limit")


def upgrade() -> None:
    """Upgrade; the configured quotas apply to all."""
    for name in _LIMITS:
        op.add_column("organizations", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Downgrade; tables that refer to organizations must keep their rows, so no table is recreated."""
    for name in _LIMITS:
        op.execute(f"ALTER TABLE organizations DROP COLUMN {name}")
