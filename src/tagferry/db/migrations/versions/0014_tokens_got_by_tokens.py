"""The token that a token was issued for, and whether it has a scope.

The columns are added and dropped one by one, as in 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade; no existing token was issued for another one, and each has a scope."""
    op.add_column("tokens", sa.Column("parent", sa.String(length=64), nullable=True))
    op.create_index("ix_tokens_parent", "tokens", ["parent"])
    op.add_column("tokens", sa.Column("is_scoped", sa.Boolean(), server_default=sa.text("true"), nullable=False))


def downgrade() -> None:
    """Downgrade; a token without a scope is scoped to its domain."""
    op.drop_column("tokens", "is_scoped")
    op.drop_index("ix_tokens_parent", "tokens")
    op.drop_column("tokens", "parent")
