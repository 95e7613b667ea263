"""The revision of a database's schema, and its upgrade by the migrations. All functions block."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from tagferry import __version__
from tagferry.db.faults import foreign_tables, missing_table
from tagferry.db.tables import Base
from tagferry.errors import Unavailable

_MIGRATIONS = Path(__file__).parent / "migrations"


def is_newest_schema(connection: Connection) -> bool:
    """Return whether the schema needs no upgrade; raises Unavailable for one that this version does not support."""
    scripts = _scripts()
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        _reject_foreign_tables(connection)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(
            f"the database has revision {revision}, which tagferry {__version__} does not support; "
            "use the newer version that upgraded it, or restore the backup from before the upgrade"
        )
    return revision == scripts.get_current_head()


def _reject_foreign_tables(connection: Connection) -> None:
    """Reject the SQLite file of another program, and a PostgreSQL schema with tables of the same names."""
    tables = set(inspect(connection).get_table_names())
    if connection.dialect.name != "sqlite":
        tables &= set(Base.metadata.tables)
    if tables:
        raise foreign_tables(connection.engine.url, min(tables))


@cache
def _scripts() -> ScriptDirectory:
    """Return the migrations, which take long to load."""
    return ScriptDirectory.from_config(_config())


def require_tables(connection: Connection) -> None:
    """Raise DatabaseFault if a table of the newest schema is missing."""
    if missing := set(Base.metadata.tables) - set(inspect(connection).get_table_names()):
        raise missing_table(connection.engine.url, min(missing))


def upgrade_schema(connection: Connection) -> None:
    """Apply the migrations that the schema lacks."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
