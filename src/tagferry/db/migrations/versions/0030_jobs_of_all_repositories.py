"""Indexes for lists of jobs over all repositories, in the order of their ids."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_INDEXES = {"status": "status", "namespace": "namespace", "target_region": "target_region"}


def upgrade() -> None:
    """Create the indexes."""
    for name, column in _INDEXES.items():
        op.create_index(f"ix_sync_jobs_{name}", "sync_jobs", [column, "id"])


def downgrade() -> None:
    """Drop the indexes."""
    for name in _INDEXES:
        op.drop_index(f"ix_sync_jobs_{name}", "sync_jobs")
