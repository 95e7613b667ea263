"""Indexes for queries that must not read every job: lists, counts, and the lookups of a new request.

SQLite chooses an index by the number of its columns that a query fixes. So an index that must be preferred to a new one
has one more of them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_SOURCE = ["source_region", "namespace", "repository"]
_TARGET = ["target_region", "target_namespace", "repository", "tag"]
_OPEN = "status IN ('waiting', 'running')"
_UNSEARCHED = "unsearched IS NOT NULL"


def upgrade() -> None:
    """Create the indexes, and extend those that they would otherwise displace."""
    # The organization is not searched for; with it, jobs are counted without reading their rows.
    _replace("ix_sync_jobs_repository", [*_SOURCE, "id", "source_organization_id"])
    _create("ix_sync_jobs_repository_status", [*_SOURCE, "status", "id", "source_organization_id"])
    _create("ix_sync_jobs_region", ["source_region", "id"])
    _create("ix_sync_jobs_region_status", ["source_region", "status", "id"])
    _create("ix_sync_jobs_operator_id", ["operator_id", "id"])
    _replace("ix_sync_jobs_operator", ["operator_id", "priority"], where=_OPEN)
    _replace("ix_sync_jobs_unsearched", [*_SOURCE, "target_region", "target_namespace", "tag"], where=_UNSEARCHED)
    _replace("ix_sync_jobs_target", [*_TARGET, "status", "id"])


def downgrade() -> None:
    """Drop the indexes, and restore the others."""
    for name in ("repository_status", "region", "region_status", "operator_id"):
        op.drop_index(f"ix_sync_jobs_{name}", "sync_jobs")
    _replace("ix_sync_jobs_repository", [*_SOURCE, "id"])
    _replace("ix_sync_jobs_operator", ["operator_id"], where=_OPEN)
    _replace("ix_sync_jobs_unsearched", _SOURCE, where=_UNSEARCHED)
    _replace("ix_sync_jobs_target", [*_TARGET, "id"])


def _replace(name: str, columns: list[str], *, where: str | None = None) -> None:
    op.drop_index(name, "sync_jobs")
    _create(name, columns, where=where)


def _create(name: str, columns: list[str], *, where: str | None = None) -> None:
    options: dict[str, Any] = (
        {} if where is None else {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)}
    )
    op.create_index(name, "sync_jobs", columns, **options)
