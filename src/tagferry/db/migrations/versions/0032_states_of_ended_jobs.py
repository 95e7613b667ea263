"""The index of the times when jobs ended also has their states, so that they are counted without reading them."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_INDEX = "ix_sync_jobs_ended_at"


def upgrade() -> None:
    """Replace the index."""
    op.drop_index(_INDEX, "sync_jobs")
    op.create_index(_INDEX, "sync_jobs", ["ended_at", "status"])


def downgrade() -> None:
    """Restore the former index."""
    op.drop_index(_INDEX, "sync_jobs")
    op.create_index(_INDEX, "sync_jobs", ["ended_at"])
