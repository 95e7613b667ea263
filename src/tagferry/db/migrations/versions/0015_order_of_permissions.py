"""The order in which permissions were given, and what clients keep with a user.

The columns are added and dropped one by one, as in 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_PERMISSIONS = ("organization_permissions", "repository_permissions")


def upgrade() -> None:
    """Apply; the permissions there are stay in the order of names, before those that are given from now on."""
    for table in _PERMISSIONS:
        op.add_column(table, sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("users", sa.Column("profile", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("users", "profile")
    for table in _PERMISSIONS:
        op.drop_column(table, "position")
