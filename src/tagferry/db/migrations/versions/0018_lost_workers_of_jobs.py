"""How often a job's worker was lost while it ran, so that a job that ends its worker is given up."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; earlier losses are not counted."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("losses", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
        batch_op.drop_column("losses")
