"""Metadata, permissions and shares of repositories."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Upgrade."""
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "repositories",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("organization_id", identifier, nullable=True),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        *_creation(),
        _ends_with_its("organizations", "organization_id", "repositories"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint("region", "namespace", "name", name="uq_repositories_place"),
    )
    op.create_index(op.f("ix_repositories_organization_id"), "repositories", ["organization_id"])
    op.create_table(
        "repository_permissions",
        sa.Column("repository_id", identifier, nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("auth", sa.Integer(), nullable=False),
        _ends_with_its("repositories", "repository_id", "repository_permissions"),
        _ends_with_its("users", "user_id", "repository_permissions"),
        sa.PrimaryKeyConstraint("repository_id", "user_id", name=op.f("pk_repository_permissions")),
    )
    op.create_table(
        "repository_shares",
        sa.Column("repository_id", identifier, nullable=False),
        sa.Column("domain_name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        *_creation(),
        _ends_with_its("repositories", "repository_id", "repository_shares"),
        sa.PrimaryKeyConstraint("repository_id", "domain_name", name=op.f("pk_repository_shares")),
    )


def downgrade() -> None:
    """Downgrade."""
    op.drop_table("repository_shares")
    op.drop_table("repository_permissions")
    op.drop_index(op.f("ix_repositories_organization_id"), "repositories")
    op.drop_table("repositories")


def _creation() -> list[sa.Column[object]]:
    return [
        sa.Column("creator_id", sa.String(length=32), nullable=False),
        sa.Column("creator_name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _ends_with_its(owner: str, column: str, table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")
