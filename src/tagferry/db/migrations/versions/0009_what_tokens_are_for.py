"""The authentication method and the scope of tokens, and the description of access keys."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; existing tokens were issued for a password, the only method so far."""
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("method", sa.String(length=16), server_default="password", nullable=False))
        batch_op.add_column(sa.Column("access_key", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("project", sa.String(length=64), nullable=True))
    with op.batch_alter_table("access_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("description", sa.String(length=255), nullable=True))


def downgrade() -> None:
    """Downgrade."""
    with op.batch_alter_table("access_keys", schema=None) as batch_op:
        batch_op.drop_column("description")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_column("project")
        batch_op.drop_column("access_key")
        batch_op.drop_column("method")
