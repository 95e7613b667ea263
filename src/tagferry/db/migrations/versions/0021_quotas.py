"""How much an organization may have, where that differs from the configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_LIMITS = ("byte_limit", "repository_limit", "upload_limit")


def upgrade() -> None:
    """Apply; the configuration's quotas hold for all."""
    for name in _LIMITS:
        op.add_column("organizations", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take back; every table that refers to organizations must keep its rows, so that none is made anew."""
    for name in _LIMITS:
        op.execute(f"ALTER TABLE organizations DROP COLUMN {name}")
