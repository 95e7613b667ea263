"""The detected capabilities of registries."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "registry_capabilities",
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_registry_capabilities")),
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("registry_capabilities")
