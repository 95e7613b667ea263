"""Disabled users and access keys, descriptions of users, and the time of a key's last use.

The columns are added and dropped one by one. In a batch SQLite would recreate the table, and dropping the old one
would delete what refers to its rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; existing users and keys stay enabled."""
    for table in ("users", "access_keys"):
        op.add_column(table, sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("users", sa.Column("description", sa.String(length=255), nullable=True))
    op.add_column("access_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Downgrade; disabled users and keys can authenticate again."""
    op.drop_column("access_keys", "last_used_at")
    op.drop_column("users", "description")
    for table in ("access_keys", "users"):
        op.drop_column(table, "enabled")
