"""Rules that synchronize pushes, and the tags they have handled."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_WAY = ["source_region", "namespace", "repository", "target_region", "target_namespace"]


def upgrade() -> None:
    """Upgrade."""
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "sync_rules",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("domain_id", sa.String(length=32), nullable=False),
        sa.Column("domain_name", sa.String(length=64), nullable=False),
        sa.Column("creator_id", sa.String(length=32), nullable=False),
        sa.Column("source_region", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("repository", sa.String(length=128), nullable=False),
        sa.Column("target_region", sa.String(length=64), nullable=False),
        sa.Column("target_namespace", sa.String(length=64), nullable=False),
        sa.Column("source_organization_id", identifier, nullable=True),
        sa.Column("target_organization_id", identifier, nullable=True),
        sa.Column("override", sa.Boolean(), nullable=False),
        sa.Column("sync_auto", sa.Boolean(), nullable=False),
        sa.Column("arrival_id", sa.BigInteger(), nullable=False),
        *(_ends_with_its("organizations", f"{end}_organization_id", "sync_rules") for end in ("source", "target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_rules")),
        sa.UniqueConstraint(*_WAY, name="uq_sync_rules_way"),
    )
    op.create_table(
        "sync_rule_tags",
        sa.Column("rule_id", identifier, nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=True),
        sa.Column("arrival_id", sa.BigInteger(), nullable=False),
        sa.Column("came_through", sa.JSON(), nullable=False),
        _ends_with_its("sync_rules", "rule_id", "sync_rule_tags"),
        sa.PrimaryKeyConstraint("rule_id", "tag", name=op.f("pk_sync_rule_tags")),
    )
    target = ["target_region", "target_namespace", "repository", "tag", "id"]
    op.create_index("ix_sync_jobs_target", "sync_jobs", target)


def downgrade() -> None:
    """Downgrade."""
    op.drop_index("ix_sync_jobs_target", "sync_jobs")
    op.drop_table("sync_rule_tags")
    op.drop_table("sync_rules")


def _ends_with_its(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{owner}_{column}_{table}")
    return sa.ForeignKeyConstraint([column], [f"{table}.id"], name=name, ondelete="CASCADE")
