"""Retention policies, the state they keep of tags, and the tags they have deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "retention_policies",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("repository_id", identifier, nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ran_at", sa.DateTime(timezone=True), nullable=True),
        _ends_with_its("repositories", "repository_id", "retention_policies"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_policies")),
        sa.UniqueConstraint("repository_id", name=op.f("uq_retention_policies_repository_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "retention_tags",
        sa.Column("policy_id", identifier, nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_attachment", sa.Boolean(), nullable=False),
        _ends_with_its("retention_policies", "policy_id", "retention_tags"),
        sa.PrimaryKeyConstraint("policy_id", "tag", name=op.f("pk_retention_tags")),
    )
    op.create_table(
        "retention_deletions",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("repository_id", identifier, nullable=False),
        sa.Column("policy_id", sa.BigInteger(), nullable=False),
        sa.Column("template", sa.String(length=16), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _ends_with_its("repositories", "repository_id", "retention_deletions"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_deletions")),
    )
    op.create_index("ix_retention_deletions_repository_id", "retention_deletions", ["repository_id", "id"])
    op.create_index(op.f("ix_retention_deletions_created_at"), "retention_deletions", ["created_at"])


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("retention_deletions")
    op.drop_table("retention_tags")
    op.drop_table("retention_policies")


def _ends_with_its(owner: str, column: str, table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")
