"""tagferry's queue with a copy engine that does nothing, so that only the queue is measured. Prints one line of JSON.

python -m bench.durable.queue_load URL JOBS ORGANIZATIONS SLOTS SERVER_PID
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import uvloop

from bench.durable.gauge import PROBES, Gauge, Load, Meter, Reading, idle_cpu, middle_ms, soon
from tagferry import logs
from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import message_bus_of
from tagferry.copy.engine import CopyEngine
from tagferry.copy.outcome import Outcome
from tagferry.copy.preflight import Finding, Verdict
from tagferry.copy.route import Route
from tagferry.db.engine import Database
from tagferry.errors import TagferryError
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.regions import Region, Regions
from tagferry.remote import Endpoint, RemoteStore
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.completion import JobWaiter
from tagferry.sync.jobs.live import LiveJobs
from tagferry.sync.jobs.messages import JOBS_ENDED
from tagferry.sync.jobs.model import SyncRequest
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.jobs.worker import Worker
from tagferry.sync.service import StartedSync, SyncService

_NORTH, _SOUTH = RegionId("cn-north-4"), RegionId("cn-north-208")
_RELEASE = Namespace("release")
_ADMIN = Caller(user_id="a" * 32, name="admin", domain_id="d" * 32, domain_name="bench", is_admin=True)
_NOWHERE = "http://127.0.0.1:9"


class _Idle(CopyEngine):
    """A copy engine that finds everything missing, and copies nothing."""

    def __init__(self, gauge: Gauge) -> None:
        super().__init__()
        self._gauge = gauge

    async def compare_all(self, route: Route, tags: Sequence[Tag], **_: Any) -> dict[Tag, Finding | TagferryError]:
        return {}

    async def copy(self, route: Route, tag: Tag, **_: Any) -> Outcome:
        organization = route.source_repository.namespace.removeprefix("org-")
        if organization.isdecimal():
            self._gauge.begins(int(organization))
        else:
            self._gauge.other_begins(tag)
        return Outcome(Verdict.COPY, None)


class _Tagferry:
    def __init__(self, service: SyncService, worker: Worker) -> None:
        self._service = service
        self.worker = worker
        self.ended = 0
        self.told = asyncio.Event()
        self._numbers = count()

    async def ask(self, organization: str, tags: list[str]) -> StartedSync:
        return await self._service.start(
            SyncRequest(
                id=f"request-{next(self._numbers)}",
                caller=_ADMIN,
                source_region=_NORTH,
                namespace=Namespace(f"org-{organization}"),
                repository=Repository("app"),
                tags=tuple(Tag(tag) for tag in tags),
                target_region=_SOUTH,
                target_namespace=_RELEASE,
            )
        )

    def on_ended(self, job_ids: Sequence[int]) -> None:
        self.ended += len(job_ids)
        self.told.set()

    async def until_ended(self, number: int) -> None:
        async with asyncio.timeout(600):
            while self.ended < number:
                self.told.clear()
                await self.told.wait()


async def measure(url: str, load: Load) -> Reading:
    """Fill the queue, then process it."""
    gauge = Gauge(load)
    async with _tagferry(url, gauge, load.slots) as tagferry:
        each = load.jobs // load.organizations
        meter = Meter(load)
        for organization in range(load.organizations):
            await tagferry.ask(str(organization), [f"v{number}" for number in range(each)])
        accepted = meter.seconds
        await tagferry.worker.start(Supervisor())
        newcomer = asyncio.create_task(_newcomer(tagferry, gauge))
        await tagferry.until_ended(load.jobs)
        total, cpu, server_cpu, memory = meter.seconds, meter.cpu, meter.server_cpu, meter.memory
        waited = await newcomer
        started = [await _start(tagferry, gauge, f"probe-{number}") for number in range(PROBES)]
        return Reading(
            accept_s=accepted,
            total_s=total,
            cpu_s=cpu,
            server_cpu_s=server_cpu,
            memory_mib=memory,
            spread=gauge.spread,
            newcomer_ms=waited * 1000,
            start_ms=middle_ms(started),
            idle_cpu=await idle_cpu(),
        )


async def _newcomer(tagferry: _Tagferry, gauge: Gauge) -> float:
    await gauge.half_done.wait()
    return await _start(tagferry, gauge, "newcomer")


async def _start(tagferry: _Tagferry, gauge: Gauge, name: str) -> float:
    begins, asked_at = gauge.expect(name), time.perf_counter()
    await tagferry.ask("other", [name])
    return await soon(begins) - asked_at


@asynccontextmanager
async def _tagferry(url: str, gauge: Gauge, slots: int) -> AsyncIterator[_Tagferry]:
    """Build what `tagferry.app` builds, with another engine; the worker is not started."""
    async with AsyncExitStack() as stack:
        database = Database(url)
        stack.push_async_callback(database.close)
        await database.migrate()
        bus, membership = message_bus_of(database, Supervisor()), coordination_of(database)
        await bus.open()
        stack.push_async_callback(bus.close)
        regions = Regions(
            Region(id=name, url=_NOWHERE, store=RemoteStore(Endpoint(name=name, url=_NOWHERE)))
            for name in (_NORTH, _SOUTH)
        )
        jobs, engine = JobStore(database, bus), _Idle(gauge)
        worker = Worker(
            engine=engine,
            jobs=jobs,
            queue=JobQueue(database, bus, membership, regions=[_NORTH, _SOUTH]),
            membership=membership,
            bus=bus,
            regions=regions,
            slots=slots,
        )
        waiter = JobWaiter(jobs, bus)
        stack.push_async_callback(waiter.close)
        stack.push_async_callback(worker.close)
        service = SyncService(
            regions=regions,
            access=AccessControl(database, open_regions=frozenset({_NORTH, _SOUTH})),
            jobs=jobs,
            pages=RepositoryJobs(database),
            engine=engine,
            worker=worker,
            waiter=waiter,
            searches=ReferrerSearches(database),
            live=LiveJobs(database, bus),
            max_tags_per_request=10_000,
            max_concurrent_requests_per_user=64,
        )
        tagferry = _Tagferry(service, worker)
        bus.subscribe(JOBS_ENDED, tagferry.on_ended)
        yield tagferry


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the figures."""
    logs.configure(style="json", level="warning")
    url, *numbers = arguments
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(url, Load(*map(int, numbers)))).document()))


if __name__ == "__main__":
    main(sys.argv[1:])
