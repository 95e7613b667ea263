"""The trace that a job belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("sync_jobs", sa.Column("trace_context", sa.String(length=600), nullable=True))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("sync_jobs") as table:
        table.drop_column("trace_context")
