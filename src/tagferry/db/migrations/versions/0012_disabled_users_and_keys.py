"""Users and access keys can be disabled, users are described, and the last use of a key is kept.

The columns are added and dropped one by one. In a batch SQLite would make the table anew, and dropping the old one
would delete what refers to its rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; the users and keys there are stay enabled."""
    for table in ("users", "access_keys"):
        op.add_column(table, sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("users", sa.Column("description", sa.String(length=255), nullable=True))
    op.add_column("access_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back; who is disabled is let in again."""
    op.drop_column("access_keys", "last_used_at")
    op.drop_column("users", "description")
    for table in ("access_keys", "users"):
        op.drop_column(table, "enabled")
