"""The coordination that a database supports: membership, named locks and leader election."""

from typing import Protocol

from tagferry.coordination.election import LeaderElection
from tagferry.coordination.locks import NamedLocks
from tagferry.coordination.membership import Membership
from tagferry.coordination.postgres import PostgresCoordination
from tagferry.coordination.single_process import SingleProcess
from tagferry.db.engine import Database


class Coordination(Membership, NamedLocks, LeaderElection, Protocol):
    """This process as a worker: its membership, its locks, and whether it is the leader."""


def coordination_of(database: Database) -> Coordination:
    """Return the coordination for this kind of database."""
    return PostgresCoordination(database) if database.is_shared else SingleProcess(database)
