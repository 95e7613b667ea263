"""The signatures of write requests that have been used."""

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; earlier signatures are unknown."""
    op.create_table(
        "used_signatures",
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("signature", name=op.f("pk_used_signatures")),
    )
    op.create_index(op.f("ix_used_signatures_expires_at"), "used_signatures", ["expires_at"])


def downgrade() -> None:
    """Downgrade."""
    op.drop_index(op.f("ix_used_signatures_expires_at"), "used_signatures")
    op.drop_table("used_signatures")
