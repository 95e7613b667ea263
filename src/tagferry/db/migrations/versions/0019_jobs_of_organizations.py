"""The ids of a job's organizations, whose names may be reused later."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_ENDS = {"source": ("source_region", "namespace"), "target": ("target_region", "target_namespace")}


def upgrade() -> None:
    """Upgrade; jobs older than an organization belong to a former one of the same name."""
    op.create_table(
        "organization_numbers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_numbers")),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("INSERT INTO organization_numbers (id) SELECT max(id) FROM organizations HAVING max(id) > 0")
        op.execute("DELETE FROM organization_numbers")
    else:
        op.execute(
            "SELECT setval('organization_numbers_id_seq', "
            "nextval(pg_get_serial_sequence('organizations', 'id')) + coalesce((SELECT max(id) FROM organizations), 0))"
        )
    for end, (region, namespace) in _ENDS.items():
        column = f"{end}_organization_id"
        with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
            batch_op.add_column(sa.Column(column, sa.BigInteger(), nullable=True))
        op.execute(
            f"UPDATE sync_jobs SET {column} = (SELECT o.id FROM organizations o WHERE o.region = sync_jobs.{region} "  # noqa: S608
            f"AND o.name = sync_jobs.{namespace} AND o.created_at <= sync_jobs.created_at)"
        )
        present = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_sync_jobs_{column}", "sync_jobs", [column], sqlite_where=present, postgresql_where=present)


def downgrade() -> None:
    """Downgrade."""
    for end in _ENDS:
        column = f"{end}_organization_id"
        op.drop_index(f"ix_sync_jobs_{column}", "sync_jobs")
        with op.batch_alter_table("sync_jobs", schema=None) as batch_op:
            batch_op.drop_column(column)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('organizations', 'id'), nextval('organization_numbers_id_seq'))"
        )
    op.drop_table("organization_numbers")
