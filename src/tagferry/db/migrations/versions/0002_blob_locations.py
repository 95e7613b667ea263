"""The locations of blobs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "blob_locations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("address", sa.String(length=512), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob_locations")),
        sa.UniqueConstraint("address", "digest", "repository", name="uq_blob_locations_place"),
    )
    with op.batch_alter_table("blob_locations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blob_locations_seen_at"), ["seen_at"], unique=False)


def downgrade() -> None:
    """Downgrade."""
    with op.batch_alter_table("blob_locations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_blob_locations_seen_at"))

    op.drop_table("blob_locations")
