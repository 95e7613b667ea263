"""Run jobs in this process: claim them, report their progress, and take over the jobs of lost workers.

A worker that may have lost its lease stops all its jobs before another worker can take them over
(`coordination/membership`), and joins again once the database responds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
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
from tagferry.events import SparseEvents, kind_of
from tagferry.names import RegionId
from tagferry.regions import Regions
from tagferry.supervision import Supervisor, surfacing
from tagferry.sync.jobs.breaker import Pause
from tagferry.sync.jobs.ends import count_start
from tagferry.sync.jobs.messages import JOBS_CANCELLED, JOBS_READY
from tagferry.sync.jobs.model import JobStatus, JobUpdate, SyncJob
from tagferry.sync.jobs.orphans import OrphanedJobs
from tagferry.sync.jobs.prefetch import Prefetch
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.retries import JobRetry
from tagferry.sync.jobs.runner import JobRun, Runner
from tagferry.sync.jobs.slots import JobSlots
from tagferry.sync.jobs.store import Claim, JobStore

_REPORT_SECONDS = 0.5
_POLL_SECONDS = 1.0
"""Seconds between polls for jobs while slots are free, in case a message was lost or a limit has been lifted."""
_RECOVER_SECONDS = 2.0
_RESUME_SECONDS = 5.0
"""Seconds between polls for jobs to retry, in case other workers postponed some and were lost."""
_ORPHANS_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_PREFETCH_LIMIT = 1000

log = structlog.get_logger(__name__)
sparse = SparseEvents(__name__)


class Worker:
    """Claims and runs jobs in this process.

    Args:
        engine: copies tags.
        jobs: the job records.
        queue: the job queue.
        membership: this process as a worker.
        bus: notifies of new and cancelled jobs.
        regions: every region by its id.
        slots: jobs that run at once in this process; 0 means that it runs none.
        retry: how jobs are retried after a registry was unavailable.
        handing_over: set while cancelled jobs are handed over to other workers.
        orphans: ends the jobs of regions that were removed.
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
        slots: int,
        retry: JobRetry | None = None,
        handing_over: asyncio.Event | None = None,
        orphans: OrphanedJobs | None = None,
    ) -> None:
        self._runner = Runner(
            engine=engine, jobs=jobs, membership=membership, regions=regions, retry=retry or JobRetry()
        )
        self._jobs = jobs
        self._queue = queue
        self._membership = membership
        self._slot_count = slots
        self._slots = JobSlots(slots)
        self._orphans = orphans
        self._handing_over = handing_over or asyncio.Event()
        self._id = 0
        self._runs: dict[int, JobRun] = {}
        self._prefetched: dict[int, Prefetch] = {}
        self._wake = asyncio.Event()
        self._postponed = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._main: asyncio.Task[NoReturn] | None = None
        self._stopping = False
        bus.subscribe(JOBS_READY, lambda _: self._wake.set())
        bus.subscribe(JOBS_CANCELLED, self._on_cancelled)

    async def start(self, supervisor: Supervisor) -> None:
        """Join the workers and start to claim jobs; raises Unavailable if that is impossible."""
        if self._slot_count <= 0:
            return
        self._id = await self._membership.join()
        await self._recover()
        self._main = supervisor.start("running jobs", self._work, is_essential=True)

    async def drain(self, seconds: float) -> None:
        """Claim no more jobs, and wait at most this long for running jobs to end."""
        self._stopping = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            log.info("waiting for running sync jobs to end", jobs=len(tasks), seconds=seconds)
            await asyncio.wait(tasks, timeout=seconds)

    async def close(self) -> None:
        """Stop immediately; running jobs are requeued for other workers or the next start."""
        if self._main is None:
            return
        self._main.cancel()
        await asyncio.wait([self._main])
        self._main = None
        await self._stop_runs()
        with suppress(SQLAlchemyError):
            if released := await self._queue.release(self._id):
                log.info("requeued running sync jobs", jobs=released)
        with suppress(SQLAlchemyError):
            await self._membership.leave()

    @property
    def slots(self) -> int:
        """How many jobs may run at once in this process."""
        return self._slot_count

    @property
    def is_registered(self) -> bool:
        """True if this process is one of the database's workers now; it joins again after it has lost its lease."""
        return self._main is not None and not self._membership.lost.is_set()

    @property
    def is_stopping(self) -> bool:
        """True if this process claims no more jobs, because it ends."""
        return self._stopping

    @property
    def running(self) -> int:
        """How many jobs run in this process."""
        return len(self._runs)

    @property
    def free(self) -> int:
        """How many more jobs may start in this process now."""
        return 0 if self._main is None or self._stopping else self._slots.free

    def free_between(self, source: RegionId, target: RegionId) -> int:
        """Return how many more jobs between two regions may start in this process now."""
        return self._slots.free_between((source, target)) if self.free else 0

    @property
    def paused_regions(self) -> Mapping[RegionId, Pause]:
        """The regions whose jobs wait because the region does not respond to this process."""
        return self._slots.paused_regions

    def is_responsive(self, source: RegionId, target: RegionId) -> bool:
        """Return whether these regions are expected to respond soon enough for a waiting caller."""
        return self._slots.is_responsive((source, target))

    def record_success(self, source: RegionId, target: RegionId) -> None:
        """Record that both regions have just responded."""
        self._slots.record_progress((source, target))

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[Claim | None]:
        """Yield a function that claims jobs within the caller's transaction; they start when the context exits.

        Yields None if no slot is free.
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
            # If the lease was lost meanwhile, the claimed jobs are requeued when the worker joins again.
            if not lost.is_set():
                for job in claimed:
                    self._launch(job)

    def prefetch(self, job_id: int, prefetch: Prefetch) -> None:
        """Keep the preflight result of a job's tag, in case the job runs in this process."""
        if len(self._prefetched) >= _PREFETCH_LIMIT:
            self._prefetched.clear()
        self._prefetched[job_id] = prefetch

    def regions_changed(self, regions: Iterable[RegionId]) -> None:
        """Forget what is known of regions whose registries have changed, or which were added or removed."""
        for region in regions:
            self._slots.forget(region)
        # They may have been read from a former registry.
        self._prefetched.clear()
        self._wake.set()

    def snapshot(self, job_id: int) -> ProgressSnapshot | None:
        """Return the current progress of a job; None if it does not run in this process."""
        run = self._runs.get(job_id)
        return run.progress.snapshot() if run is not None else None

    def _on_cancelled(self, job_ids: Sequence[int]) -> None:
        # Cancellations in a lost message are noticed at the next progress report.
        for job_id in job_ids:
            self._cancel(job_id)

    def _cancel(self, job_id: int) -> None:
        run = self._runs.get(job_id)
        if run is not None and run.task is not None:
            run.task.cancel()

    async def _work(self) -> None:
        """Work while this worker holds its lease, and again after it has rejoined."""
        while True:
            duties = [
                asyncio.create_task(self._repeat(task, seconds))
                for task, seconds in (
                    (self._claim, 0.0),
                    (self._report, _REPORT_SECONDS),
                    (self._recover, _RECOVER_SECONDS),
                    (self._resume, 0.0),
                    (self._end_orphans, _ORPHANS_SECONDS),
                )
            ]
            try:
                await self._membership.lost.wait()
                log.error("stopped all sync jobs because this worker lost its lease", jobs=len(self._runs))
                # Cancel before waiting for the database: other workers do not wait.
                self._cancel_runs()
            finally:
                for task in duties:
                    task.cancel()
                await asyncio.wait(duties)
            await self._stop_runs()
            await self._rejoin()

    async def _repeat(self, task: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await surfacing(task())
            except SQLAlchemyError as error:
                sparse.warning("the database was unavailable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as error:
                sparse.error("a worker task failed", key=kind_of(error), exc_info=error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _claim(self) -> None:
        """Fill the free slots, then wait until there may be jobs again."""
        self._wake.clear()
        async with self._claiming:
            free = self.free
            claimed = await self._queue.claim(self._id, free, self._slots.capacity()) if free else []
            for job in claimed:
                self._launch(job)
        if not claimed or len(claimed) < free:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    def _launch(self, job: SyncJob) -> None:
        def on_done(_: asyncio.Task[None]) -> None:
            del self._runs[job.id]
            self._slots.end(job, error=run.error, is_known=run.is_known)
            self._wake.set()

        run = self._runs[job.id] = JobRun(job, self._prefetched.pop(job.id, None))
        self._slots.begin(job)
        count_start(job)
        run.task = asyncio.create_task(self._run(run, self._id), name=f"sync job {job.id}")
        run.task.add_done_callback(on_done)

    async def _recover(self) -> None:
        """Requeue the jobs that no worker runs, and end those whose deadline has passed."""
        for worker_id, jobs in (await self._queue.requeue_lost()).items():
            log.warning("worker lost; its jobs were requeued", worker=worker_id, jobs=jobs)
        async with self._claiming:
            # If the response to a claim was lost, jobs are recorded for this worker without its knowledge.
            if unknown := await self._queue.release_unknown(self._id, self._runs):
                log.warning("requeued jobs that this worker did not know of", jobs=unknown)
        await self._jobs.expire()
        if freed := await self._jobs.unblock():
            log.info("unblocked jobs whose predecessors had ended", jobs=len(freed))

    async def _end_orphans(self) -> None:
        if self._orphans is not None:
            await self._orphans.end(self._queue.regions)

    async def _resume(self) -> None:
        """Queue the jobs whose next attempt is due, then wait until more may be due."""
        self._postponed.clear()
        seconds = await self._jobs.resume()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESUME_SECONDS if seconds is None else min(seconds, _RESUME_SECONDS)):
                await self._postponed.wait()

    async def _report(self) -> None:
        """Record the progress of all running jobs in one transaction, and stop jobs that this worker no longer owns."""
        if self._slots.observe([run.job for run in self._runs.values() if run.has_moved()]):
            self._wake.set()
        changes = [
            JobUpdate(
                job_id,
                JobStatus.RUNNING,
                bytes_done=run.progress.bytes_done,
                bytes_total=run.progress.bytes_total,
                timeline=run.timeline_if_due(),
            )
            for job_id, run in self._runs.items()
        ]
        if changes:
            progress = [run.message() for run in self._runs.values()]
            for job_id in await self._jobs.report(changes, worker_id=self._id, progress=progress):
                self._cancel(job_id)

    async def _run(self, run: JobRun, worker_id: int) -> None:
        if not await self._runner.run(run, worker_id=worker_id):
            self._postponed.set()

    def _cancel_runs(self) -> list[asyncio.Task[None]]:
        self._handing_over.set()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _stop_runs(self) -> None:
        await asyncio.gather(*self._cancel_runs(), return_exceptions=True)

    async def _rejoin(self) -> None:
        former = self._id
        while True:
            try:
                async with self._claiming:
                    self._id = await self._membership.join()
                    # All jobs of the former worker have been stopped, so they can be requeued without a grace period.
                    await self._queue.release(former)
                self._handing_over.clear()
            except (Unavailable, SQLAlchemyError) as error:
                sparse.warning("this worker could not join", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                log.info("this worker joined again", worker=self._id)
                return
