"""The liveness and readiness probes.

They need no credentials, so their responses report problems without internal details.
"""

import asyncio
from collections.abc import Mapping
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
from tagferry.sync.jobs.worker import Worker
from tagferry.web.server.admission import Load

log = SparseEvents(__name__)

_FRESH_SECONDS = 1.0
_RETRY_SECONDS = 5
_RESTART_SECONDS = 300.0
"""The time after which a failing background task is not expected to recover in this process."""
_OK = "ok"
_NO_ANSWER = "the database does not answer"
_MIGRATED = "another version has changed the schema; upgrade this process"


class Health(BaseModel):
    """The response of `/healthz`: the state of the process and its components."""

    status: Literal["ok", "failed"]
    components: dict[str, str]


class Jobs(BaseModel):
    """The sync jobs of the process.

    Attributes:
        running: how many run.
        slots: how many may run at once.
    """

    running: int
    slots: int


class Ready(BaseModel):
    """The response of `/readyz`: whether the process can serve requests, and the state of its components.

    `degraded`: requests can be served, but a component that they do not depend on has failed, a disk is almost full,
    or a background task fails again and again. `paused` lists the regions whose registries do not answer. `jobs` is
    missing if the process runs none.
    """

    status: Literal["ok", "degraded", "failed"]
    components: dict[str, str]
    paused: list[str] | None = None
    jobs: Jobs | None = None


class Readiness:
    """The state of this process's components.

    Args:
        database: queried at most once a second.
        supervisor: the background tasks.
        load: the requests in progress; None if this process serves no region.
        regions: the regions, whose disks are checked.
        worker: runs the jobs of this process, and knows the regions whose registries do not answer. A process that
            serves no region is not ready without it.
    """

    def __init__(
        self, *, database: Database, supervisor: Supervisor, load: Load | None, regions: Regions, worker: Worker
    ) -> None:
        self._database = database
        self._supervisor = supervisor
        self._load = load
        self._regions = regions
        self._worker = worker
        self._single_flight: SingleFlight[str, Mapping[str, str]] = SingleFlight()
        self._asked_at = float("-inf")
        self._database_was: Mapping[str, str] = {"database": _NO_ANSWER}

    async def report(self, *, with_disk: bool) -> Ready:
        """Return the state of each component; of the disks only with `with_disk`."""
        required = {"process": "stopping" if self._worker.is_stopping else _OK, **await self._database_state()}
        optional = dict.fromkeys(self._supervisor.tasks, _OK)
        if self._load is not None:
            required["requests"] = "overloaded: requests are refused" if self._load.is_shedding else _OK
        if self._worker.slots:
            state = _OK if self._worker.is_registered else "not registered: it lost its lease, and joins again"
            (optional if self._load is not None else required)["worker"] = state
        for region in self._regions if with_disk else ():
            if isinstance(region.store, DiskStore):
                name = f"disk of {region.id}"
                if (error := await region.store.health_error()) is not None:
                    required[name] = error
                else:
                    optional[name] = await region.store.space_warning() or _OK
        for name, failure in self._supervisor.failures.items():
            optional[name] = _described(failure)
            if failure.is_essential and not failure.is_running:
                required[name] = optional[name]
        has_failed = any(state != _OK for state in required.values())
        is_degraded = any(state != _OK for state in optional.values())
        return Ready(
            status="failed" if has_failed else "degraded" if is_degraded else "ok",
            components=optional | required,
            paused=sorted(self._worker.paused_regions) or None,
            jobs=Jobs(running=self._worker.running, slots=self._worker.slots) if self._worker.slots else None,
        )

    async def health(self) -> Health:
        """Return whether a restart of the process is needed: an essential background task has failed for minutes.

        The event loop is only reported: if it hangs, there is no response at all, and if it is late because of too much
        work, a restart does not help.
        """
        components = dict.fromkeys(self._supervisor.tasks, _OK)
        for name, failure in self._supervisor.failures.items():
            if failure.is_essential and failure.seconds > _RESTART_SECONDS:
                components[name] = f"failed ({failure.reason}) for {failure.seconds:.0f} s"
        has_failed = any(state != _OK for state in components.values())
        late = await _loop_lag()
        components["event loop"] = _OK if late < bounds.PROBED_LAG_SECONDS else f"late by {late:.1f} s"
        return Health(status="failed" if has_failed else "ok", components=components)

    async def _database_state(self) -> Mapping[str, str]:
        if asyncio.get_running_loop().time() - self._asked_at < _FRESH_SECONDS:
            return self._database_was
        return await self._single_flight.run("database", self._ask)

    async def _ask(self) -> Mapping[str, str]:
        state = {"database": _NO_ANSWER}
        self._database_was = state
        try:
            async with asyncio.timeout(bounds.READINESS_SECONDS):
                await self._database.ping()
                is_current = await self._database.is_schema_current()
            state = {"database": _OK, "migrations": _OK if is_current else _MIGRATED}
        except DatabaseUnavailable as error:
            log.warning("the database did not answer", reason=error.detail)
            state = {"database": error.message}
        except Exception as error:
            log.warning("the database did not answer", reason=str(error) or type(error).__name__)
        self._database_was = state
        self._asked_at = asyncio.get_running_loop().time()
        return state


async def _loop_lag() -> float:
    """Return how many seconds the event loop takes for one turn."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(0)
    return loop.time() - began


def _described(failure: Failure) -> str:
    times = "failed" if failure.count == 1 else f"failed {failure.count} times"
    state = "and runs again" if failure.is_running else "and is being restarted"
    return f"{times} since {failure.since:%Y-%m-%dT%H:%M:%SZ} ({failure.reason}), {state}"


async def healthz_response(readiness: Readiness) -> Response:
    """Return the response of `/healthz`."""
    health = await readiness.health()
    return JSONResponse(health.model_dump(), status_code=200 if health.status == "ok" else 503)


async def readyz_response(readiness: Readiness, *, with_disk: bool = True) -> Response:
    """Return the response of `/readyz`; with disks only if `with_disk`."""
    report = await readiness.report(with_disk=with_disk)
    document = report.model_dump(exclude_none=True)
    if report.status != "failed":
        return JSONResponse(document)
    return JSONResponse(document, status_code=503, headers={"Retry-After": str(_RETRY_SECONDS)})


def add_probes(app: FastAPI, readiness: Readiness) -> None:
    """Add the routes of the probes."""

    @app.get("/healthz", tags=["probes"], response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Report whether the process is alive.

        503: an essential background task has failed for five minutes, although it was restarted. Restart the process.
        """
        return await healthz_response(readiness)

    @app.get("/readyz", tags=["probes"], response_model=Ready, responses={503: {"model": Ready}})
    async def readyz(exclude: Annotated[Literal["disk"] | None, Query()] = None) -> Response:
        """Report whether requests can be served, component by component.

        200: the process is neither overloaded nor stopping, the database answers and has the schema of this version,
        embedded registries can write to their disks, and the essential background tasks run. A disk, or a directory on
        it, that failed a request is not ready until it can be used again. Where disks are full or read-only, pulls
        still work: `exclude=disk` leaves the disks out. A region whose registry does not answer is named in `paused`;
        requests can be served nevertheless.
        """
        return await readyz_response(readiness, with_disk=exclude is None)
