"""The order in which permissions were granted, and the profile that clients store with a user.

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
    """Upgrade; existing permissions stay in the order of names, before those that are granted later."""
    for table in _PERMISSIONS:
        op.add_column(table, sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("users", sa.Column("profile", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Downgrade."""
    op.drop_column("users", "profile")
    for table in _PERMISSIONS:
        op.drop_column(table, "position")
