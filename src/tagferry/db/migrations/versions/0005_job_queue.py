"""The job queue and the workers."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "workers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("after_id", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("worker_id", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("starts", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("started_at", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("ended_at", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("deadline_at", UtcDateTime(), nullable=True))
        batch_op.drop_index("ix_sync_jobs_status")
    _put_jobs_in_the_queue()
    way = ["source_region", "namespace", "repository", "tag", "target_region", "target_namespace"]
    is_open = "status IN ('waiting', 'running')"
    op.create_index("ix_sync_jobs_queue", "sync_jobs", ["status", "priority", "turn", "id"])
    op.create_index("ix_sync_jobs_operator", "sync_jobs", ["operator_id"], **_where(is_open))
    op.create_index("ix_sync_jobs_way", "sync_jobs", way, **_where(is_open))
    op.create_index("ix_sync_jobs_after_id", "sync_jobs", ["after_id"], **_where("after_id IS NOT NULL"))
    op.create_index("ix_sync_jobs_ended_at", "sync_jobs", ["ended_at"])


def downgrade() -> None:
    """Downgrade."""
    for index in ("ended_at", "after_id", "way", "operator", "queue"):
        op.drop_index(f"ix_sync_jobs_{index}", "sync_jobs")
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.create_index("ix_sync_jobs_status", ["status"])
        for column in ("deadline_at", "ended_at", "started_at", "starts", "worker_id", "after_id", "turn", "priority"):
            batch_op.drop_column(column)
    op.drop_table("workers")


def _put_jobs_in_the_queue() -> None:
    """Set the end or the position in the queue of the jobs of the earlier revision."""
    op.execute("UPDATE sync_jobs SET ended_at = updated_at WHERE status NOT IN ('waiting', 'running')")
    op.execute("UPDATE sync_jobs SET status = 'waiting', turn = id WHERE status IN ('waiting', 'running')")
    op.execute(
        """
        UPDATE sync_jobs SET after_id = (
            SELECT max(earlier.id) FROM sync_jobs AS earlier
            WHERE earlier.status = 'waiting' AND earlier.id < sync_jobs.id
              AND earlier.source_region = sync_jobs.source_region
              AND earlier.namespace = sync_jobs.namespace
              AND earlier.repository = sync_jobs.repository
              AND earlier.tag = sync_jobs.tag
              AND earlier.target_region = sync_jobs.target_region
              AND earlier.target_namespace = sync_jobs.target_namespace
        ) WHERE status = 'waiting'
        """
    )


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
