"""The differences between an image at the source and at the target."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rewritten", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Downgrade."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.drop_column("rewritten")
