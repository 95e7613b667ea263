"""The regions as the running processes of a database know them, which may differ from the configuration file."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tagferry.app import configured_regions
from tagferry.cli.accounts import has_database
from tagferry.db.batches import error_summary
from tagferry.db.engine import Database
from tagferry.errors import DatabaseUnavailable
from tagferry.settings import Settings
from tagferry.workers import ConfiguredRegion, ProcessInfo, ProcessList, ended_processes


@dataclass(frozen=True, slots=True)
class RunningRegions:
    """The regions.

    Attributes:
        notes: where they come from, if not from processes that agree with the configuration file.
    """

    regions: Sequence[ConfiguredRegion]
    notes: Sequence[str] = ()


async def running_regions(settings: Settings) -> RunningRegions:
    """Return the regions that the running processes know; those of the configuration if none runs."""
    in_file = configured_regions(settings)
    try:
        processes = await _processes(settings)
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        why = error.detail if isinstance(error, DatabaseUnavailable) else error_summary(error)
        return RunningRegions(in_file, [f"these are the regions of the configuration file: {why}"])
    if not processes:
        note = "no tagferry process uses this database; these are the regions of the configuration file"
        return RunningRegions(in_file, [note])
    return regions_of(processes, in_file, host=socket.gethostname())


def regions_of(processes: Sequence[ProcessInfo], in_file: Sequence[ConfiguredRegion], *, host: str) -> RunningRegions:
    """Return the regions that processes know, a region that is served as the process knows it that serves it.

    The configurations of other machines differ on purpose: an embedded region is a remote registry there.

    Args:
        processes: those that are running.
        in_file: the regions of the configuration file.
        host: the name of this machine, whose processes should agree with the file.
    """
    regions: dict[str, ConfiguredRegion] = {}
    notes = []
    for process in processes:
        known = list(process.configured or ())
        for one in known:
            if one["id"] not in regions or (one["listen"] and not regions[one["id"]]["listen"]):
                regions[one["id"]] = one
        if known != in_file and process.name.rpartition(":")[0] == host:
            notes.append(
                f"{process.name} works with another configuration than the file; apply it with: tagferry reload"
            )
    return RunningRegions(list(regions.values()), notes)


async def _processes(settings: Settings) -> list[ProcessInfo]:
    if not has_database(settings):
        return []
    database = Database(settings.effective_database_url)
    try:
        ended = await ended_processes(database)
        return [one for one in await ProcessList(database).load() if not one.is_lost and one.name not in ended]
    finally:
        await database.close()
