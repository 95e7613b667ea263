"""The next attempt of a job whose registry was unavailable, and its last error."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import UtcDateTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_QUEUE = ["status", "priority", "turn", "id"]


def upgrade() -> None:
    """Upgrade; no job has been retried so far."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("failing_since", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("next_attempt_at", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("last_error", sa.Text(), nullable=True))
    op.drop_index("ix_sync_jobs_queue", "sync_jobs")
    op.create_index("ix_sync_jobs_queue", "sync_jobs", _QUEUE, **_where("next_attempt_at IS NULL"))
    op.create_index(
        "ix_sync_jobs_next_attempt_at", "sync_jobs", ["next_attempt_at"], **_where("next_attempt_at IS NOT NULL")
    )


def downgrade() -> None:
    """Downgrade; jobs that wait for their next attempt are queued."""
    op.drop_index("ix_sync_jobs_next_attempt_at", "sync_jobs")
    op.drop_index("ix_sync_jobs_queue", "sync_jobs")
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        for column in ("last_error", "next_attempt_at", "failing_since", "attempts"):
            batch_op.drop_column(column)
    op.create_index("ix_sync_jobs_queue", "sync_jobs", _QUEUE)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
