"""The liveness and readiness probes.

They need no credentials, so their answers say what is wrong without internal details.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tagferry import bounds
from tagferry.concurrency import SingleFlight
from tagferry.db.engine import Database
from tagferry.events import SparseEvents
from tagferry.names import RegionId
from tagferry.regions import Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.sync.service import SyncService
from tagferry.web.errors import OVERLOADED, serialize
from tagferry.web.server.admission import Load

log = SparseEvents(__name__)

_FRESH_SECONDS = 1.0


class Ready(BaseModel):
    """The answer of a process that is ready; `paused` is there while a region's registry does not answer it."""

    status: Literal["ok"]
    paused: list[str] | None = None


class Readiness:
    """Whether requests can be served.

    Args:
        database: has to answer; it is asked once a second at most, however often the probe is.
        regions: whose embedded registries must be able to write.
        load: must not be too high.
        sync: knows which regions are paused, which others can do without.
    """

    def __init__(self, database: Database, regions: Regions, load: Load, sync: SyncService) -> None:
        self._database = database
        self._regions = regions
        self._load = load
        self._sync = sync
        self._single_flight: SingleFlight[str, bool] = SingleFlight()
        self._asked_at = float("-inf")
        self._answered = False

    async def problem(self, *, with_disk: bool) -> str | None:
        """What is wrong, with the disks too if they are asked for; None if nothing is."""
        if self._load.is_shedding:
            return "overloaded: requests are refused"
        if not await self._database_answers():
            return "the database does not answer"
        for region in self._regions if with_disk else ():
            if isinstance(region.store, DiskStore) and (fault := await region.store.health_error()):
                return f"region {region.id}: {fault}"
        return None

    @property
    def paused(self) -> list[RegionId]:
        """The regions whose synchronizations wait because they do not answer."""
        return sorted(self._sync.paused_regions)

    async def _database_answers(self) -> bool:
        if asyncio.get_running_loop().time() - self._asked_at < _FRESH_SECONDS:
            return self._answered
        return await self._single_flight.run("database", self._ask)

    async def _ask(self) -> bool:
        self._answered = False
        try:
            async with asyncio.timeout(bounds.READINESS_SECONDS):
                await self._database.ping()
            self._answered = True
        except Exception as error:
            log.warning("the database does not answer", reason=str(error) or type(error).__name__)
        self._asked_at = asyncio.get_running_loop().time()
        return self._answered


def add_probes(app: FastAPI, readiness: Readiness) -> None:
    """Add the routes of the probes."""

    @app.get("/healthz", tags=["probes"])
    async def healthz() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["probes"], response_model=Ready)
    async def readyz(request: Request, exclude: Annotated[Literal["disk"] | None, Query()] = None) -> Response:
        """Whether requests can be served.

        The process is not overloaded, the database answers, and embedded registries can write to their disks. A disk,
        or a directory on it, that failed a request is not ready until it can be used again. Where disks are full or
        read-only, pulls still work: `exclude=disk` leaves them out. A region whose registry does not
        answer is named; requests can be served nevertheless.
        """
        if problem := await readiness.problem(with_disk=exclude is None):
            return serialize(OVERLOADED, [problem], request.scope)
        return JSONResponse({"status": "ok"} | ({"paused": paused} if (paused := readiness.paused) else {}))
