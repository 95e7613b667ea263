"""Runs jobs in this process: claims them in turn, reports how far they are, and watches over the other workers.

A worker that can no longer be sure that it counts as present stops all it does before anybody else begins with it
(`db/presence`), and becomes a worker anew once the database answers again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.coordination.membership import Membership
from tagferry.coordination.pubsub import MessageBus
from tagferry.copy.engine import CopyEngine
from tagferry.copy.progress import ProgressSnapshot
from tagferry.errors import Unavailable
from tagferry.names import RegionId
from tagferry.regions import Regions
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.breaker import Pause
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob
from tagferry.sync.jobs.prefetch import Prefetch
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.runner import JobRun, Runner
from tagferry.sync.jobs.slots import JobSlots
from tagferry.sync.jobs.store import CANCELLED, WORK, Claim, JobStore

_REPORT_SECONDS = 0.5
_LOOK_SECONDS = 1.0
"""How often a worker with free places looks for jobs by itself, in case that a signal was lost or a limit ran out."""
_WATCH_SECONDS = 2.0
_RESUME_SECONDS = 5.0
"""How often a worker looks for jobs to retry, in case other workers postponed some and were lost."""
_RETRY_SECONDS = 1.0
_PREFETCH_LIMIT = 1000

log = structlog.get_logger(__name__)


class Worker:
    """The jobs that run in this process.

    Args:
        engine: copies.
        jobs: the records.
        queue: where jobs come from.
        membership: this process as a worker.
        bus: tell of new work and of what is cancelled.
        regions: every region by its id.
        places: jobs that run at once here; none means that this process only accepts them.
        retry: how a job is tried again whose registry was away.
        leaving: set while what is cancelled here is for other workers to go on with.
    """

    def __init__(
        self,
        *,
        engine: CopyEngine,
        jobs: JobStore,
        queue: JobQueue,
        membership: Membership,
        bus: MessageBus,
        regions: Regions,
        places: int,
        retry: JobRetry | None = None,
        leaving: asyncio.Event | None = None,
    ) -> None:
        self._runner = Runner(
            engine=engine, jobs=jobs, membership=membership, regions=regions, retry=retry or JobRetry()
        )
        self._jobs = jobs
        self._queue = queue
        self._membership = membership
        self._places = places
        self._slots = JobSlots(places)
        self._leaving = leaving or asyncio.Event()
        self._id = 0
        self._runs: dict[int, JobRun] = {}
        self._prefetched: dict[int, Prefetch] = {}
        self._wake = asyncio.Event()
        self._postponed = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._main: asyncio.Task[NoReturn] | None = None
        self._stopping = False
        bus.subscribe(WORK, lambda _: self._wake.set())
        bus.subscribe(CANCELLED, self._on_cancelled)

    async def start(self, supervisor: Supervisor | None = None) -> None:
        """Become a worker and begin; raises Unavailable where that cannot be."""
        if self._places <= 0:
            return
        self._id = await self._membership.join()
        await self._watch_once()
        self._main = (supervisor or Supervisor()).start("running jobs", self._work, is_essential=True)

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, and let those under way come to their end for at most this long."""
        self._stopping = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            log.info("letting synchronizations under way end", jobs=len(tasks), seconds=seconds)
            await asyncio.wait(tasks, timeout=seconds)

    async def close(self) -> None:
        """Stop at once; what was under way waits for another worker, or for the next start."""
        if self._main is None:
            return
        self._main.cancel()
        await asyncio.wait([self._main])
        self._main = None
        await self._stop_runs()
        with suppress(SQLAlchemyError):
            if released := await self._queue.release(self._id):
                log.info("synchronizations go on with another worker, or at the next start", jobs=released)
        with suppress(SQLAlchemyError):
            await self._membership.leave()

    @property
    def free(self) -> int:
        """How many more jobs could run here now."""
        return 0 if self._main is None or self._stopping else self._slots.free

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """The regions whose jobs wait because they do not answer this process."""
        return self._slots.paused_regions

    def is_responsive(self, source: RegionId, target: RegionId) -> bool:
        """Return whether it makes sense to ask these regions something whose answer somebody waits for."""
        return self._slots.is_responsive((source, target))

    def record_success(self, source: RegionId, target: RegionId) -> None:
        """Note that both regions have answered just now."""
        self._slots.record_progress((source, target))

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[Claim | None]:
        """Let whoever records jobs claim what comes next here in the same transaction; it begins when this is left.

        Yields None where there is no place now.
        """
        if not self.free:
            yield None
            return
        async with self._claiming:
            claimed: list[SyncJob] = []
            worker_id, lost = self._id, self._membership.lost

            async def claim(session: AsyncSession) -> list[int]:
                if not lost.is_set() and self.free:
                    capacity = self._slots.capacity()
                    claimed.extend(await self._queue.claim_within(session, worker_id, self.free, capacity))
                return [job.id for job in claimed]

            yield claim
            # What a worker claimed that has been lost since then waits again when it is a worker anew.
            if not lost.is_set():
                for job in claimed:
                    self._launch(job)

    def prefetch(self, job_id: int, prefetch: Prefetch) -> None:
        """Tell what was just found out about a job's tag, in case that it runs here."""
        if len(self._prefetched) >= _PREFETCH_LIMIT:
            self._prefetched.clear()
        self._prefetched[job_id] = prefetch

    def snapshot(self, job_id: int) -> ProgressSnapshot | None:
        """How a job's copy is now; None where it does not run in this process."""
        run = self._runs.get(job_id)
        return run.progress.snapshot() if run is not None else None

    def _on_cancelled(self, payload: str) -> None:
        # What an empty payload may have told is found out when progress is reported.
        for job_id in filter(None, payload.split(",")):
            self._drop(int(job_id))

    def _drop(self, job_id: int) -> None:
        run = self._runs.get(job_id)
        if run is not None and run.task is not None:
            run.task.cancel()

    async def _work(self) -> None:
        """Work as long as this worker counts as present, and again once it does anew."""
        while True:
            duties = [
                asyncio.create_task(self._repeat(duty, seconds))
                for duty, seconds in (
                    (self._claim, 0.0),
                    (self._report, _REPORT_SECONDS),
                    (self._watch_once, _WATCH_SECONDS),
                    (self._resume, 0.0),
                )
            ]
            try:
                await self._membership.lost.wait()
                log.error(
                    "stopping all synchronizations of this worker, since others may take them", jobs=len(self._runs)
                )
                # Before anything that waits for a database which may not be there: the others do not wait.
                self._cancel_runs()
            finally:
                for duty in duties:
                    duty.cancel()
                await asyncio.wait(duties)
            await self._stop_runs()
            await self._enter_again()

    async def _repeat(self, duty: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await duty()
            except SQLAlchemyError as error:
                log.warning("the database cannot be used for now", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                log.exception("a worker's duty failed")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _claim(self) -> None:
        """Fill the free places, then wait until there may be something to do again."""
        self._wake.clear()
        async with self._claiming:
            free = self.free
            claimed = await self._queue.claim(self._id, free, self._slots.capacity()) if free else []
            for job in claimed:
                self._launch(job)
        if not claimed or len(claimed) < free:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    def _launch(self, job: SyncJob) -> None:
        def landed(_: asyncio.Task[None]) -> None:
            del self._runs[job.id]
            self._slots.end(job, error=run.error, is_known=run.is_known)
            self._wake.set()

        run = self._runs[job.id] = JobRun(job, self._prefetched.pop(job.id, None))
        self._slots.begin(job)
        run.task = asyncio.create_task(self._run(run, self._id), name=f"sync job {job.id}")
        run.task.add_done_callback(landed)

    async def _watch_once(self) -> None:
        """Free what nobody runs any more, and end what waited too long."""
        for worker_id, jobs in (await self._queue.requeue_lost()).items():
            log.warning("a worker is gone; what it had under way goes on", worker=worker_id, jobs=jobs)
        async with self._claiming:
            # Where the answer to a claim was lost, the jobs are on record as this worker's, and it does not know.
            if strays := await self._queue.release_unknown(self._id, self._runs):
                log.warning("jobs that this worker lost sight of go on", jobs=strays)
        await self._jobs.expire()
        if freed := await self._jobs.unblock():
            log.info("jobs whose way is free go on", jobs=len(freed))

    async def _resume(self) -> None:
        """Queue the jobs whose next attempt is due, then wait until there may be more of them."""
        self._postponed.clear()
        seconds = await self._jobs.resume()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESUME_SECONDS if seconds is None else min(seconds, _RESUME_SECONDS)):
                await self._postponed.wait()

    async def _report(self) -> None:
        """Put the progress of running jobs on record, all in one transaction, and stop what is no longer ours."""
        if self._slots.observe([run.job for run in self._runs.values() if run.has_moved()]):
            self._wake.set()
        changes = [
            JobUpdate(
                job_id, JobStatus.RUNNING, bytes_done=run.progress.bytes_done, bytes_total=run.progress.bytes_total
            )
            for job_id, run in self._runs.items()
        ]
        if changes:
            for job_id in await self._jobs.report(changes, worker_id=self._id):
                self._drop(job_id)

    async def _run(self, run: JobRun, worker_id: int) -> None:
        if not await self._runner.run(run, worker_id=worker_id):
            self._postponed.set()

    def _cancel_runs(self) -> list[asyncio.Task[None]]:
        self._leaving.set()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _stop_runs(self) -> None:
        await asyncio.gather(*self._cancel_runs(), return_exceptions=True)

    async def _enter_again(self) -> None:
        former = self._id
        while True:
            try:
                async with self._claiming:
                    self._id = await self._membership.join()
                    # All that this process had under way has been stopped, so nobody need wait for its former self.
                    await self._queue.release(former)
                self._leaving.clear()
            except (Unavailable, SQLAlchemyError) as error:
                log.warning("this worker cannot work for now", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                log.info("this worker is present again", worker=self._id)
                return
