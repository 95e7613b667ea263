"""The reason why the search for an image's signatures and other referrers was incomplete."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_NOT_NULL = sa.text("unsearched IS NOT NULL")


def upgrade() -> None:
    """Upgrade; for earlier jobs this is only part of their reason."""
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
    """Downgrade; the reasons of jobs are kept."""
    op.drop_index("ix_sync_jobs_unsearched", "sync_jobs")
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.drop_column("unsearched")
