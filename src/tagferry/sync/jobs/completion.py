"""Waiting for jobs to end, wherever they run, without holding a thread or a database connection."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence

from tagferry.coordination.pubsub import MessageBus
from tagferry.db.batches import error_summary
from tagferry.errors import Unavailable
from tagferry.events import SparseEvents
from tagferry.sync.jobs.messages import JOBS_ENDED
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.store import JobStore

LOOK_SECONDS = 2.0
"""Seconds between polls of the database while calls wait, in case a message was lost."""

_REMEMBERED = 10_000
"""Ended jobs that are remembered for calls that start to wait later."""

log = SparseEvents(__name__)


class JobWaiter:
    """Waits for jobs to end; one query serves all waiting calls of this process.

    Args:
        jobs: the job records.
        bus: receives the ids of jobs that end.
        look_seconds: how often the records are read when no message arrives.
    """

    def __init__(self, jobs: JobStore, bus: MessageBus, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._jobs = jobs
        self._look_seconds = look_seconds
        self._awaited: dict[int, asyncio.Future[JobStatus]] = {}
        self._waiting: Counter[int] = Counter()
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._told = asyncio.Event()
        self._looker: asyncio.Task[None] | None = None
        self._closed = False
        bus.subscribe(JOBS_ENDED, self._on_ended)

    async def wait(self, jobs: Collection[int], *, seconds: float) -> dict[int, JobStatus]:
        """Wait at most this long for jobs to end; returns those that have ended.

        Raises:
            Unavailable: this process is shutting down.
        """
        if seconds <= 0:
            return await self._jobs.ends(jobs)
        if self._closed:
            raise _stops()
        loop = asyncio.get_running_loop()
        awaited = {job_id: self._awaited.setdefault(job_id, loop.create_future()) for job_id in set(jobs)}
        self._waiting.update(awaited.keys())
        if not self._ended.keys().isdisjoint(awaited):
            self._told.set()
        if self._looker is None or self._looker.done():
            self._looker = asyncio.create_task(self._look())
        try:
            await asyncio.wait(awaited.values(), timeout=seconds)
        finally:
            self._leave(awaited.keys())
        return {job_id: ending.result() for job_id, ending in awaited.items() if ending.done()}

    async def close(self) -> None:
        """Fail all waiting calls, because this process is shutting down."""
        self._closed = True
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait([self._looker])
        for ending in self._awaited.values():
            ending.set_exception(_stops())
            ending.exception()
        self._awaited.clear()

    def _leave(self, jobs: Collection[int]) -> None:
        """Stop polling for the jobs that no other call waits for."""
        self._waiting.subtract(jobs)
        for job_id in jobs:
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._awaited.pop(job_id, None)
        if not self._awaited and self._looker is not None and not self._looker.done():
            self._told.set()

    def _on_ended(self, ended: Sequence[int]) -> None:
        # A call that starts to wait later must see these ends too, and needs no query if none of its jobs has ended.
        self._ended.update(dict.fromkeys(ended))
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        if not ended or not self._awaited.keys().isdisjoint(ended):
            self._told.set()

    async def _look(self) -> None:
        while self._awaited:
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._told.wait()
            except TimeoutError:
                pass
            self._told.clear()
            if not self._awaited:
                return
            try:
                ends = await self._jobs.ends(list(self._awaited))
            except Exception as error:
                # The waiting calls get their result once the database responds again, or run into their timeout.
                log.warning("could not read which jobs ended", reason=error_summary(error))
                await asyncio.sleep(self._look_seconds)
                continue
            for job_id, status in ends.items():
                if (ending := self._awaited.pop(job_id, None)) is not None:
                    ending.set_result(status)


def _stops() -> Unavailable:
    return Unavailable("the server is shutting down; repeat the request to rejoin the sync")
