"""An index of jobs by digest, for the search for the repositories that hold an image."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_WHERE = sa.text("digest IS NOT NULL")


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_sync_jobs_digest", "sync_jobs", ["digest", "id"], sqlite_where=_WHERE, postgresql_where=_WHERE)


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_sync_jobs_digest", "sync_jobs")
