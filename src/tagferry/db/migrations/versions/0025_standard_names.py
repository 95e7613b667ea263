"""Names of columns that are also the names in the code, the configuration and the documentation."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import UtcDateTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("sync_jobs", "turn", "fair_position"),
    ("sync_jobs", "after_id", "blocked_by"),
    ("sync_jobs", "unsearched", "search_error"),
    ("sync_jobs", "losses", "lost_workers"),
    ("sync_jobs", "attempts", "failures"),
    ("sync_jobs", "starts", "attempts"),
    ("sync_rules", "arrival_id", "latest_job_id"),
    ("sync_rule_tags", "arrival_id", "latest_job_id"),
    ("sync_rule_tags", "came_through", "hops"),
    ("retention_tags", "is_attachment", "is_attached_artifact"),
    ("organization_permissions", "auth", "permission"),
    ("repository_permissions", "auth", "permission"),
)
"""Each table, with the former and the current name. `attempts` must be renamed before `starts` takes its name."""
_SOURCE = ["source_region", "namespace", "repository"]
_ROUTE = [*_SOURCE, "tag", "target_region", "target_namespace"]
_SEARCHED = [*_SOURCE, "target_region", "target_namespace", "tag"]
_INDEXES = (
    ("way", "route", _ROUTE, "status IN ('waiting', 'running')"),
    ("after_id", "blocked_by", ["{column}"], "{column} IS NOT NULL"),
    ("unsearched", "search_error", _SEARCHED, "{column} IS NOT NULL"),
)
"""The former and the current name of each index of jobs, with its columns and its condition."""


def upgrade() -> None:
    """Rename the columns in place, which moves no data, and the indexes that are named after them."""
    for former, *_ in _INDEXES:
        op.drop_index(f"ix_sync_jobs_{former}", "sync_jobs")
    for table, former, current in _COLUMNS:
        _rename(table, former, current)
    for _, current, columns, condition in _INDEXES:
        _create_index(current, columns, condition)
    _replace_table("blob_uploads", "upload_sessions")


def downgrade() -> None:
    """Restore the former names."""
    _replace_table("upload_sessions", "blob_uploads")
    for _, current, *_ in _INDEXES:
        op.drop_index(f"ix_sync_jobs_{current}", "sync_jobs")
    for table, former, current in reversed(_COLUMNS):
        _rename(table, current, former)
    for former, _, columns, condition in _INDEXES:
        _create_index(former, columns, condition)


def _rename(table: str, before: str, after: str) -> None:
    # Alembic's batches would copy the table, and delete the rows that refer to it.
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {before} TO {after}")


def _create_index(name: str, columns: list[str], condition: str) -> None:
    where: dict[str, Any] = dict.fromkeys(("sqlite_where", "postgresql_where"), sa.text(condition.format(column=name)))
    op.create_index(f"ix_sync_jobs_{name}", "sync_jobs", [column.format(column=name) for column in columns], **where)


def _replace_table(before: str, after: str) -> None:
    """Move the few rows to a new table, so that its constraints have its name, too."""
    op.create_table(
        after,
        sa.Column("address", sa.String(512), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("address", "repository", "digest", name=op.f(f"pk_{after}")),
    )
    columns = "address, repository, digest, location, updated_at"
    op.execute(f"INSERT INTO {after} ({columns}) SELECT {columns} FROM {before}")  # noqa: S608
    op.drop_table(before)
    op.create_index(op.f(f"ix_{after}_updated_at"), after, ["updated_at"])
