"""The coordination that a database supports: membership, named locks and leader election."""

from typing import Protocol

from tagferry.coordination.election import LeaderElection
from tagferry.coordination.locks import NamedLocks
from tagferry.coordination.membership import Membership
from tagferry.coordination.postgres import PostgresCoordination, living_on_postgres
from tagferry.coordination.single_process import SingleProcess, living_on_sqlite
from tagferry.db.engine import Database


class Coordination(Membership, NamedLocks, LeaderElection, Protocol):
    """This process as a worker: its membership, its locks, and whether it is the leader."""


def coordination_of(database: Database) -> Coordination:
    """Return the coordination for this kind of database."""
    return PostgresCoordination(database) if database.is_shared else SingleProcess(database)


async def living_workers(database: Database) -> set[str]:
    """Return the names of the workers that hold their locks, for processes that are not workers themselves.

    A worker that has just lost its connection to PostgreSQL may be missing for a moment.
    """
    return await (living_on_postgres(database) if database.is_shared else living_on_sqlite(database))
