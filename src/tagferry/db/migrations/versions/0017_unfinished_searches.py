"""Why not all signatures and other referrers of a job's image could be searched for."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_NOT_NULL = sa.text("unsearched IS NOT NULL")


def upgrade() -> None:
    """Apply; of earlier jobs only the reason says so."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("unsearched", sa.Text(), nullable=True))
    op.create_index(
        "ix_sync_jobs_unsearched",
        "sync_jobs",
        ["source_region", "namespace", "repository"],
        sqlite_where=_NOT_NULL,
        postgresql_where=_NOT_NULL,
    )


def downgrade() -> None:
    """Take back; the reasons of the jobs stay."""
    op.drop_index("ix_sync_jobs_unsearched", "sync_jobs")
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.drop_column("unsearched")
