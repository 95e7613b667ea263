"""The number of image downloads of repositories."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; earlier downloads were not counted."""
    op.create_table(
        "repository_downloads",
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "namespace", "name"),
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("repository_downloads")
