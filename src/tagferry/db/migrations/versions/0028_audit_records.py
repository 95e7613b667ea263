"""Audit records."""

import sqlalchemy as sa
from alembic import op

from tagferry.db.columns import FreeText, Identifier, UtcDateTime

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_FILTERS = {
    "time": [],
    "user": ["user_name"],
    "organization": ["organization"],
    "repository": ["repository"],
    "method": ["method"],
    "operation": ["operation"],
}


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "audit_records",
        sa.Column("id", Identifier, autoincrement=True, nullable=False),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.Column("user_name", sa.String(64), nullable=True),
        sa.Column("access_key", sa.String(64), nullable=True),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("operation", sa.String(64), nullable=True),
        sa.Column("path", FreeText(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("is_refused", sa.Boolean(), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("organization", sa.String(64), nullable=True),
        sa.Column("repository", sa.String(255), nullable=True),
        sa.Column("subject_user", sa.String(64), nullable=True),
        sa.Column("subject_key", sa.String(64), nullable=True),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_records")),
    )
    for name, columns in _FILTERS.items():
        op.create_index(f"ix_audit_records_{name}", "audit_records", [*columns, "occurred_at", "id"])
    refused = sa.text("is_refused")
    op.create_index(
        "ix_audit_records_refused",
        "audit_records",
        ["occurred_at", "id"],
        sqlite_where=refused,
        postgresql_where=refused,
    )


def downgrade() -> None:
    """Downgrade; the audit log keeps its lines."""
    op.drop_table("audit_records")
