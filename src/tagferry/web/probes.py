"""The liveness and readiness probes.

They need no credentials, so their responses report problems without internal details.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tagferry import bounds
from tagferry.concurrency import SingleFlight
from tagferry.db.engine import Database
from tagferry.errors import DatabaseUnavailable
from tagferry.events import SparseEvents
from tagferry.regions import Regions
from tagferry.registry.storage.store import DiskStore
from tagferry.supervision import Failure, Supervisor
from tagferry.sync.service import SyncService
from tagferry.web.server.admission import Load

log = SparseEvents(__name__)

_FRESH_SECONDS = 1.0
_RETRY_SECONDS = 5
_RESTART_SECONDS = 300.0
"""The time after which a failing background task is not expected to recover in this process."""
_OK = "ok"
_NO_ANSWER = "the database does not answer"


class Health(BaseModel):
    """The response of `/healthz`: the state of the process and its components."""

    status: Literal["ok", "failed"]
    components: dict[str, str]


class Ready(BaseModel):
    """The response of `/readyz`: whether the process can serve requests, and the state of its components.

    `degraded`: requests can be served, but a component that they do not depend on has failed, or a background task
    fails again and again. `paused` lists the regions whose registries do not answer.
    """

    status: Literal["ok", "degraded", "failed"]
    components: dict[str, str]
    paused: list[str] | None = None


class Readiness:
    """The state of this process's components.

    Args:
        database: queried at most once a second.
        supervisor: the background tasks.
        load: the requests in progress.
        regions: the regions, whose disks are checked.
        sync: knows the regions whose registries do not answer.
    """

    def __init__(
        self, *, database: Database, supervisor: Supervisor, load: Load, regions: Regions, sync: SyncService
    ) -> None:
        self._database = database
        self._supervisor = supervisor
        self._load = load
        self._regions = regions
        self._sync = sync
        self._single_flight: SingleFlight[str, str] = SingleFlight()
        self._asked_at = float("-inf")
        self._database_was = _NO_ANSWER

    async def report(self, *, with_disk: bool) -> Ready:
        """Return the state of each component; of the disks only with `with_disk`."""
        required = {
            "requests": "overloaded: requests are refused" if self._load.is_shedding else _OK,
            "database": await self._database_state(),
        }
        for region in self._regions if with_disk else ():
            if isinstance(region.store, DiskStore):
                required[f"disk of {region.id}"] = await region.store.health_error() or _OK
        optional = dict.fromkeys(self._supervisor.tasks, _OK)
        for name, failure in self._supervisor.failures.items():
            optional[name] = _described(failure)
            if failure.is_essential and not failure.is_running:
                required[name] = optional[name]
        has_failed = any(state != _OK for state in required.values())
        is_degraded = any(state != _OK for state in optional.values())
        return Ready(
            status="failed" if has_failed else "degraded" if is_degraded else "ok",
            components=optional | required,
            paused=sorted(self._sync.paused_regions) or None,
        )

    def health(self) -> Health:
        """Return whether a restart of the process is needed: an essential background task has failed for minutes."""
        components = dict.fromkeys(self._supervisor.tasks, _OK)
        for name, failure in self._supervisor.failures.items():
            if failure.is_essential and failure.seconds > _RESTART_SECONDS:
                components[name] = f"failed ({failure.reason}) for {failure.seconds:.0f} s"
        return Health(
            status="ok" if all(state == _OK for state in components.values()) else "failed", components=components
        )

    async def _database_state(self) -> str:
        if asyncio.get_running_loop().time() - self._asked_at < _FRESH_SECONDS:
            return self._database_was
        return await self._single_flight.run("database", self._ask)

    async def _ask(self) -> str:
        self._database_was = _NO_ANSWER
        try:
            async with asyncio.timeout(bounds.READINESS_SECONDS):
                await self._database.ping()
            self._database_was = _OK
        except DatabaseUnavailable as error:
            log.warning("the database did not answer", reason=error.detail)
            self._database_was = error.message
        except Exception as error:
            log.warning("the database did not answer", reason=str(error) or type(error).__name__)
        self._asked_at = asyncio.get_running_loop().time()
        return self._database_was


def _described(failure: Failure) -> str:
    times = "failed" if failure.count == 1 else f"failed {failure.count} times"
    state = "and runs again" if failure.is_running else "and is being restarted"
    return f"{times} since {failure.since:%Y-%m-%dT%H:%M:%SZ} ({failure.reason}), {state}"


def add_probes(app: FastAPI, readiness: Readiness) -> None:
    """Add the routes of the probes."""

    @app.get("/healthz", tags=["probes"], response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Report whether the process is alive.

        503: an essential background task has failed for five minutes, although it was restarted. Restart the process.
        """
        health = readiness.health()
        return JSONResponse(health.model_dump(), status_code=200 if health.status == "ok" else 503)

    @app.get("/readyz", tags=["probes"], response_model=Ready, responses={503: {"model": Ready}})
    async def readyz(exclude: Annotated[Literal["disk"] | None, Query()] = None) -> Response:
        """Report whether requests can be served, component by component.

        200: the process is not overloaded, the database answers, embedded registries can write to their disks, and the
        essential background tasks run. A disk, or a directory on it, that failed a request is not ready until it can be
        used again. Where disks are full or read-only, pulls still work: `exclude=disk` leaves the disks out. A region
        whose registry does not answer is named in `paused`; requests can be served nevertheless.
        """
        report = await readiness.report(with_disk=exclude is None)
        document = report.model_dump(exclude_none=True)
        if report.status != "failed":
            return JSONResponse(document)
        return JSONResponse(document, status_code=503, headers={"Retry-After": str(_RETRY_SECONDS)})
