"""The steps of each attempt of a job, and the job that it was queued behind."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and add the column."""
    op.add_column("sync_jobs", sa.Column("queued_behind", sa.BigInteger(), nullable=True))
    op.create_table(
        "sync_job_attempts",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("blobs_uploaded", sa.Integer(), nullable=False),
        sa.Column("bytes_uploaded", sa.BigInteger(), nullable=False),
        sa.Column("blobs_mounted", sa.Integer(), nullable=False),
        sa.Column("bytes_mounted", sa.BigInteger(), nullable=False),
        sa.Column("blobs_present", sa.Integer(), nullable=False),
        sa.Column("bytes_present", sa.BigInteger(), nullable=False),
        sa.Column("blobs_omitted", sa.Integer(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["sync_jobs.id"], name=op.f("fk_sync_job_attempts_job_id_sync_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_sync_job_attempts")),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("sync_job_attempts")
    with op.batch_alter_table("sync_jobs") as table:
        table.drop_column("queued_behind")
