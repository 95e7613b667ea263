"""The number of workers lost while they ran a job, so that a job that kills its workers fails."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; earlier losses are not counted."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("losses", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    """Downgrade."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.drop_column("losses")
