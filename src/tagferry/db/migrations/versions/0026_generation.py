"""A number that changes with everything that requests look up."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_EVERY_CHANGE = ("INSERT", "UPDATE", "DELETE")
_TABLES: dict[str, tuple[str, ...]] = {
    "domains": _EVERY_CHANGE,
    "users": _EVERY_CHANGE,
    # Without `last_used_at`.
    "access_keys": (
        "INSERT",
        "UPDATE OF access_key, user_id, secret_encrypted, description, enabled, created_at",
        "DELETE",
    ),
    # Some clients get a token for each of their requests; only tokens that were found are remembered.
    "tokens": ("UPDATE", "DELETE"),
    "organizations": _EVERY_CHANGE,
    "organization_permissions": _EVERY_CHANGE,
    "repositories": _EVERY_CHANGE,
    "repository_permissions": _EVERY_CHANGE,
    "repository_shares": _EVERY_CHANGE,
    "sync_rules": _EVERY_CHANGE,
    "triggers": _EVERY_CHANGE,
}
# Up to 2^53, integers are exact as floating-point numbers.
_FIRST = {
    "sqlite": "INSERT INTO generation (id, value) VALUES (1, random())",
    "postgresql": ("INSERT INTO generation (id, value) VALUES (1, CAST(floor(random() * 9007199254740992) AS BIGINT))"),
}
# An UPDATE: the conflict clause of the statement that fires a trigger replaces those in the trigger.
_SQLITE_CHANGE = "UPDATE generation SET value = random() WHERE id = 1"
# REPLACE deletes rows without firing their triggers.
_REPLACING = "WHEN EXISTS (SELECT 1 FROM tokens WHERE token_hash = NEW.token_hash OR rowid = NEW.rowid)"
# Once a transaction. The number of the transaction is not a column: a dump would carry it to another server, where a
# later transaction has it, too.
_POSTGRES_CHANGE = """
    CREATE FUNCTION change_generation() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO generation AS held (id, value)
        VALUES (1, CAST(floor(random() * 9007199254740992) AS BIGINT))
        ON CONFLICT (id) DO UPDATE SET value = excluded.value
        WHERE CAST(CAST(held.xmin AS text) AS bigint) <> txid_current() % 4294967296;
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    """Upgrade."""
    op.create_table(
        "generation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation")),
    )
    dialect = op.get_bind().dialect.name
    op.execute(_FIRST[dialect])
    for statement in _sqlite_triggers() if dialect == "sqlite" else _postgres_triggers():
        op.execute(statement)


def downgrade() -> None:
    """Downgrade."""
    if op.get_bind().dialect.name == "sqlite":
        for table, changes in _TABLES.items():
            for change in changes:
                op.execute(f"DROP TRIGGER {_name(table, change)}")
        op.execute(f"DROP TRIGGER {_name('tokens', 'insert')}")
    else:
        op.execute("DROP FUNCTION change_generation CASCADE")
    op.drop_table("generation")


def _sqlite_triggers() -> Iterator[str]:
    for table, changes in _TABLES.items():
        for change in changes:
            yield f"CREATE TRIGGER {_name(table, change)} AFTER {change} ON {table} BEGIN {_SQLITE_CHANGE}; END"
    yield f"CREATE TRIGGER {_name('tokens', 'insert')} BEFORE INSERT ON tokens {_REPLACING} BEGIN {_SQLITE_CHANGE}; END"


def _postgres_triggers() -> Iterator[str]:
    yield _POSTGRES_CHANGE
    for table, changes in _TABLES.items():
        # At the commit, so that transactions that wait for each other here hold all of their other locks already.
        yield (
            f"CREATE CONSTRAINT TRIGGER generation_{table} AFTER {' OR '.join(changes)} ON {table} "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION change_generation()"
        )
        yield (
            f"CREATE TRIGGER generation_{table}_truncate AFTER TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION change_generation()"
        )
        for name in (f"generation_{table}", f"generation_{table}_truncate"):
            # Also in sessions that apply the changes of another server.
            yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"


def _name(table: str, change: str) -> str:
    return f"generation_{table}_{change.split()[0].lower()}"
