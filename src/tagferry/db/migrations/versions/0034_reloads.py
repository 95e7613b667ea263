"""The state of processes: their regions, the keys of their secrets, and requests to reload the configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; each process fills the columns of its record."""
    op.add_column("processes", sa.Column("configured", sa.JSON(), nullable=True))
    op.add_column("processes", sa.Column("reload_requested", sa.String(32), nullable=True))
    op.add_column("processes", sa.Column("reload_answered", sa.String(32), nullable=True))
    op.add_column("processes", sa.Column("reload_answer", sa.JSON(), nullable=True))
    op.add_column("processes", sa.Column("key_ids", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Downgrade."""
    for column in ("key_ids", "reload_answer", "reload_answered", "reload_requested", "configured"):
        op.drop_column("processes", column)
