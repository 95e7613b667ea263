"""The health of regions."""

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import ByteCount, FreeText, UtcDateTime

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; the first checks follow soon."""
    op.create_table(
        "region_health",
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", FreeText(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("checked_at", UtcDateTime(), nullable=False),
        sa.Column("latency", sa.Double(), nullable=True),
        sa.Column("smoothed_latency", sa.Double(), nullable=True),
        sa.Column("certificate_expires_at", UtcDateTime(), nullable=True),
        sa.Column("throttled_until", UtcDateTime(), nullable=True),
        sa.Column("disk_free", ByteCount(), nullable=True),
        sa.Column("disk_total", ByteCount(), nullable=True),
        sa.PrimaryKeyConstraint("region", "kind", name=op.f("pk_region_health")),
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("region_health")
