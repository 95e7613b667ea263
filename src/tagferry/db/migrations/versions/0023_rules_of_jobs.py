"""The rule that started a job, as a column."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_BACKFILL = {
    "postgresql": r"""
        UPDATE sync_jobs SET rule_id = CAST(substring(request_id FROM '^rule-([0-9]{1,18})-') AS BIGINT)
        WHERE request_id ~ '^rule-[0-9]{1,18}-[0-9a-f]+$'
    """,
    "sqlite": """
        UPDATE sync_jobs SET rule_id = CAST(substr(request_id, 6) AS INTEGER)
        WHERE request_id GLOB 'rule-[0-9]*-[0-9a-f]*'
        AND instr(substr(request_id, 6), '-') BETWEEN 2 AND 19
        AND substr(request_id, 6, instr(substr(request_id, 6), '-') - 1) NOT GLOB '*[^0-9]*'
        AND substr(request_id, 6 + instr(substr(request_id, 6), '-')) NOT GLOB '*[^0-9a-f]*'
    """,
}


def upgrade() -> None:
    """Add the column, and take the rules of existing jobs from the ids of their requests, `rule-ID-HEX`."""
    op.add_column("sync_jobs", sa.Column("rule_id", sa.BigInteger(), nullable=True))
    op.execute(_BACKFILL[op.get_bind().dialect.name])


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE sync_jobs DROP COLUMN rule_id")
