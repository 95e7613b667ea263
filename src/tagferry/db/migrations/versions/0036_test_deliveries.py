"""Deliveries that test a webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; the deliveries so far are about tags."""
    with op.batch_alter_table("deliveries") as batch_op:
        batch_op.add_column(sa.Column("event", sa.String(16), nullable=False, server_default="tag"))


def downgrade() -> None:
    """Downgrade, without the tests, which would look like deliveries about tags."""
    op.execute("DELETE FROM deliveries WHERE event <> 'tag'")
    with op.batch_alter_table("deliveries") as batch_op:
        batch_op.drop_column("event")
