"""The state of jobs as it changes, whichever process runs them: one hub per process, for all who watch."""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy import func, select

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.batches import error_summary
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.events import SparseEvents
from tagferry.sync.jobs.messages import JOBS_CANCELLED, JOBS_ENDED, JOBS_PROGRESSED, JOBS_READY, JobProgress
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.rows import JOB_COLUMNS, parse_rows

LOOK_SECONDS = 5.0
"""Seconds between looks at all watched jobs, in case a message was lost."""
_PAUSE_SECONDS = 0.5
"""Seconds between queries, however many messages arrive."""
_IDS_PER_QUERY = 1000
_REMEMBERED = 10_000
_FRESH_SECONDS = 10.0
"""The age after which progress says nothing about a job: its worker may have been lost."""

log = SparseEvents(__name__)


class Watch:
    """One watcher's view of its jobs.

    Attributes:
        jobs: the watched jobs that exist, as they are now.
    """

    def __init__(self, ids: Collection[int]) -> None:
        self.ids = frozenset(ids)
        self.jobs: dict[int, SyncJob] = {}
        self._changed: set[int] = set()
        self._event = asyncio.Event()
        self._has_news = False

    async def changes(self, *, seconds: float) -> tuple[list[SyncJob], bool]:
        """Wait for a change for at most this long.

        Returns:
            The jobs that have changed since the last call, each once, and whether there may be new jobs.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        changed, has_news = self._changed, self._has_news
        self._changed, self._has_news = set(), False
        self._event.clear()
        return [self.jobs[job_id] for job_id in sorted(changed)], has_news

    def _update(self, job: SyncJob, former: SyncJob | None) -> None:
        """Note what a job is now.

        Args:
            job: the job.
            former: the state that its watches got last, if that was another one.
        """
        before = self.jobs.get(job.id)
        if before is job:
            return
        # Also if it is equal, so that the next comparison costs nothing.
        self.jobs[job.id] = job
        if before is None or before is former or not _is_same(before, job):
            self._changed.add(job.id)
            self._event.set()

    def _announce(self) -> None:
        self._has_news = True
        self._event.set()


class LiveJobs:
    """Follows the jobs that are watched in this process.

    Progress arrives in messages. Ends, lost messages, and a look every few seconds lead to one query for all watched
    jobs that are concerned.

    Args:
        database: stores the job records.
        bus: receives the messages.
        look_seconds: how often all watched jobs are read.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        database: Database,
        bus: MessageBus,
        *,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._look_seconds = look_seconds
        self._clock = clock
        self._latest: OrderedDict[int, tuple[float, JobProgress]] = OrderedDict()
        self._watches: set[Watch] = set()
        self._watches_of: defaultdict[int, set[Watch]] = defaultdict(set)
        self._shown: dict[int, SyncJob] = {}
        self._due: set[int] = set()
        self._newest = 0
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        bus.subscribe(JOBS_PROGRESSED, self._on_progress)
        bus.subscribe(JOBS_ENDED, self._on_change)
        bus.subscribe(JOBS_CANCELLED, self._on_change)
        bus.subscribe(JOBS_READY, self._on_news)

    def progress(self, job_id: int) -> JobProgress | None:
        """Return the latest progress of a job that some process runs; None if it is unknown or old."""
        at, found = self._latest.get(job_id, (0.0, None))
        return found if found is not None and self._clock() - at < _FRESH_SECONDS else None

    @contextmanager
    def watch(self, jobs: Collection[SyncJob]) -> Iterator[Watch]:
        """Watch these jobs; what happens to them after they were read is not missed for longer than a look takes."""
        watch = Watch([job.id for job in jobs])
        watch.jobs = {job.id: job for job in jobs}
        self._newest = max(self._newest, 0, *watch.ids)
        self._watches.add(watch)
        for job in jobs:
            self._watches_of[job.id].add(watch)
            if job.status.has_ended:
                self._show(job)
            else:
                self._shown.setdefault(job.id, job)
        self._due |= watch.ids
        self._wake.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            for job_id in watch.ids:
                self._watches_of[job_id].discard(watch)
                if not self._watches_of[job_id]:
                    del self._watches_of[job_id]
                    self._shown.pop(job_id, None)
            self._wake.set()

    async def close(self) -> None:
        """End all watches, because this process is shutting down."""
        self.closed.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def _on_progress(self, messages: Sequence[JobProgress]) -> None:
        now = self._clock()
        for one in messages:
            self._latest[one.job_id] = now, one
            self._latest.move_to_end(one.job_id)
            job = self._shown.get(one.job_id)
            # Messages of processes are not in order with those of ends.
            if job is not None and not job.status.has_ended:
                self._show(one.applied_to(job))
        while len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)
        self._note([one.job_id for one in messages])
        if not messages:
            self._look_again(None)

    def _on_change(self, ids: Sequence[int]) -> None:
        for job_id in ids:
            self._latest.pop(job_id, None)
        self._note(ids)
        self._look_again(ids or None)

    def _on_news(self, _: Sequence[int]) -> None:
        for watch in self._watches:
            watch._announce()
        # Jobs that were waiting behind others or for a retry may have changed, too.
        self._look_again(None)

    def _note(self, ids: Collection[int]) -> None:
        """Announce that there are new jobs if one of these is newer than all before."""
        if ids and max(ids) > self._newest:
            self._newest = max(ids)
            for watch in self._watches:
                watch._announce()

    def _look_again(self, ids: Collection[int] | None) -> None:
        """Read these of the watched jobs soon; None for all that have not ended."""
        self._due |= self._open() if ids is None else self._watches_of.keys() & set(ids)
        if self._due:
            self._wake.set()

    def _open(self) -> set[int]:
        """Return the watched jobs that have not ended, as far as is known."""
        return {job_id for job_id, job in self._shown.items() if not job.status.has_ended}

    async def _look(self) -> None:
        while self._watches:
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._wake.wait()
                is_regular = False
            except TimeoutError:
                self._due |= self._open()
                is_regular = True
            self._wake.clear()
            due, self._due = self._due & self._watches_of.keys(), set()
            if not due and not is_regular:
                continue
            try:
                await self._read(due)
                if is_regular:
                    await self._read_newest()
            except Exception as error:
                log.warning("could not read watched jobs", reason=error_summary(error))
                self._due |= due
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self, due: Collection[int]) -> None:
        wanted = sorted(due)
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            ids = wanted[start : start + _IDS_PER_QUERY]
            found = await self._database.rows(select(*JOB_COLUMNS).where(SyncJobRow.id.in_(ids)), {})
            for job in parse_rows(found)[0]:
                progress = self.progress(job.id) if job.status is JobStatus.RUNNING else None
                self._show(progress.applied_to(job) if progress is not None else job)

    async def _read_newest(self) -> None:
        async with self._database.read() as session:
            newest = await session.scalar(select(func.max(SyncJobRow.id)))
        self._note([newest] if newest is not None else [])

    def _show(self, job: SyncJob) -> None:
        """Pass the state of a job on to its watches."""
        if job.id not in self._watches_of:
            return
        # Compared once, and not by each of the watches: all get the same object.
        before = self._shown.get(job.id)
        now = self._shown[job.id] = before if before is not None and _is_same(before, job) else job
        former = before if now is not before else None
        for watch in self._watches_of[job.id]:
            watch._update(now, former)


def _is_same(before: SyncJob, job: SyncJob) -> bool:
    """Return whether a job is as before. The time of the last report alone is no change."""
    return replace(before, updated_at=job.updated_at) == job
