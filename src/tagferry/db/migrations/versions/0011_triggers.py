"""Triggers, the digests they were last notified of, and their deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "triggers",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("repository_id", identifier, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("trigger_type", sa.String(length=16), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("trigger_mode", sa.String(length=16), nullable=False),
        sa.Column("cluster_id", sa.String(length=128), nullable=False),
        sa.Column("cluster_name", sa.String(length=128), nullable=False),
        sa.Column("cluster_ns", sa.String(length=63), nullable=False),
        sa.Column("app_type", sa.String(length=16), nullable=False),
        sa.Column("application", sa.String(length=253), nullable=False),
        sa.Column("container", sa.String(length=253), nullable=False),
        sa.Column("creator_id", sa.String(length=32), nullable=False),
        sa.Column("creator_name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _ends_with_its("repositories", "repository_id", "triggers"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_triggers")),
        sa.UniqueConstraint("repository_id", "name", name="uq_triggers_name"),
    )
    op.create_table(
        "trigger_tags",
        sa.Column("trigger_id", identifier, nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        _ends_with_its("triggers", "trigger_id", "trigger_tags"),
        sa.PrimaryKeyConstraint("trigger_id", "tag", name=op.f("pk_trigger_tags")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("trigger_id", identifier, nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("pushed_by", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        _ends_with_its("triggers", "trigger_id", "deliveries"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_trigger", "deliveries", ["trigger_id", "id"])
    is_waiting = sa.text("status = 'waiting'")
    op.create_index(
        "ix_deliveries_due", "deliveries", ["due_at", "id"], sqlite_where=is_waiting, postgresql_where=is_waiting
    )
    op.create_index("ix_deliveries_ended_at", "deliveries", ["ended_at"])


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("deliveries")
    op.drop_table("trigger_tags")
    op.drop_table("triggers")


def _ends_with_its(owner: str, column: str, table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")
