"""Watching tags: whoever follows a repository is told to look at a tag that may have changed.

Whether there is something to do is told by the digests alone: a tag that points to another one than it was last handled
for. Events only say where to look at once; what no event told of is found by polls.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn, Protocol

import structlog

from tagferry.automation.watch.scheduling import Backoff, Clock, DelayQueues, Recheck, log_error, reason_of
from tagferry.concurrency import bounded_gather
from tagferry.errors import InvalidName, NotFound
from tagferry.names import Digest, Reference, RegionId, RepositoryName, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.history import SyncHistory

_CHECKS = 8
"""Tags of one region that are looked at at the same time because of an event."""
_SCANS = 4
"""Repositories of one region that are polled at the same time."""
_HEADS = 8
"""Tags of one of them that are asked for at the same time."""
_TICK_SECONDS = 5.0
_FORGOTTEN_AT_ONCE = 500
_ENDS_AT_ONCE = 500

log = structlog.get_logger(__name__)

RecordPush = Callable[[RepositoryRef, Tag, Digest, str | None], Awaitable[None]]
"""Told of a push: the tag, where it points to, and by whom it was pushed if that is known."""
IsLeader = Callable[[], Awaitable[bool]]
_TagWork = tuple[RepositoryRef, Tag]


async def always_leader() -> bool:
    """The answer of a process that has nobody to share the polls with."""
    return True


class Follower(Protocol):
    """Somebody who has something to do whenever a tag of certain repositories points elsewhere."""

    async def sources(self) -> list[RepositoryRef]:
        """The repositories that are followed, wherever they are."""
        ...

    async def handled(self, source: RepositoryRef) -> list[Mapping[str, str]]:
        """What the tags of a repository were last handled for, once for each thing that is done about them.

        It is empty where the repository is not followed, or nothing can be done in this process.
        """
        ...

    async def check(self, source: RepositoryRef, tag: Tag) -> Recheck:
        """Look at a tag, and do what is to be done; raises what the source's registry raises."""
        ...

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Take tags, or all tags of these digests, that were deleted for never handled."""
        ...


class TagWatcher:
    """Looks for tags that have changed, and has those who follow their repository look at them.

    Args:
        followers: who has something to do about tags.
        regions: where images are.
        sync_history: what sync jobs brought.
        on_push: records a push before whoever pushed is answered.
        poll_seconds: the regions to poll, and how long after a poll of a repository the next one is due.
        leads: whether this process does the polls, and follows the ends of jobs.
        agenda_limit: tags and repositories of a region, and ends of jobs, that wait to be looked at; what is more is
            found by a full round.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        followers: Sequence[Follower],
        regions: Regions,
        sync_history: SyncHistory,
        record_push: RecordPush,
        poll_seconds: Mapping[RegionId, float],
        is_leader: IsLeader = always_leader,
        queue_limit: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        self._followers = followers
        self._regions = regions
        self._sync_history = sync_history
        self._record_push = record_push
        self._poll_seconds = poll_seconds
        self._is_leader = is_leader
        self._clock = clock
        self._tags: DelayQueues[_TagWork] = DelayQueues(queue_limit, lambda work: work[0].region, clock)
        self._sources: DelayQueues[RepositoryRef] = DelayQueues(queue_limit, lambda source: source.region, clock)
        self._polled_at: dict[RepositoryRef, float] = {}
        self._being_scanned: set[RepositoryRef] = set()
        self._queue_limit = queue_limit
        self._ended_jobs: set[int] = set()
        self._has_ended_jobs = asyncio.Event()
        self._was_leader = False
        self._needs_full_scan = False
        self._backoff = Backoff(initial=5.0, maximum=600.0, clock=clock)
        self._task: asyncio.Task[NoReturn] | None = None

    def tag_changed(self, region: RegionId, repository: RepositoryName, tag: Tag) -> None:
        """A tag may have changed; it is looked at soon. Never fails, and never waits."""
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        self._schedule_check(source, tag)

    async def pushed(
        self, region: RegionId, repository: RepositoryName, tag: Tag, digest: Digest, by: str | None
    ) -> None:
        """A tag was pushed through this process: it is recorded by whoever wants that, and looked at soon.

        Never fails: what cannot be recorded is found by looking.
        """
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        try:
            await self._record_push(source, tag, digest, by)
        except Exception as error:
            log_error(error, "a push cannot be recorded for now", repository=str(source), tag=tag)
        self._schedule_check(source, tag)

    def repository_changed(self, source: RepositoryRef) -> None:
        """Any tag of a repository may have changed; all are looked at soon."""
        # Where there is no room, the next round finds whatever there is to find.
        self._needs_full_scan |= not self._sources.add(source)

    async def look(self, source: RepositoryRef) -> None:
        """Look at all of a repository now, and later if that goes wrong. Never fails."""
        await self._guarded(source, self.scan(source))

    def jobs_ended(self, payload: str) -> None:
        """Sync jobs have ended, of these ids, joined by commas; an empty text stands for any that nobody told of."""
        if not self._was_leader:
            # Who leads looks at it, and who comes to lead looks at everything.
            return
        if not payload or len(self._ended_jobs) >= self._queue_limit:
            self._needs_full_scan = True
            return
        self._ended_jobs.update(int(job_id) for job_id in payload.split(","))
        self._has_ended_jobs.set()

    async def forget(self, region: RegionId, repository: RepositoryName, *references: Reference) -> None:
        """Tags, or all tags of these digests, were deleted: the same image, pushed again, is news."""
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        for start in range(0, len(references), _FORGOTTEN_AT_ONCE):
            for follower in self._followers:
                await follower.forget(source, *references[start : start + _FORGOTTEN_AT_ONCE])

    def start(self, supervisor: Supervisor | None = None) -> None:
        """Begin to look, first at everything that is followed."""
        self._task = (supervisor or Supervisor()).start("watching tags", self._run, is_essential=True)

    async def close(self) -> None:
        """Stop looking; what was not looked at is found at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def check(self, source: RepositoryRef, tag: Tag) -> None:
        """Let everybody look at a tag who follows its repository; raises what the source's registry raises."""
        for follower in self._followers:
            again = await follower.check(source, tag)
            if again.tag_at is not None:
                self._schedule_check(source, tag, again.tag_at)
            if again.source_at is not None:
                self._needs_full_scan |= not self._sources.add(source, again.source_at)

    async def scan(self, source: RepositoryRef) -> None:
        """Look at every tag of a repository: one list, and one HEAD a tag; raises what its registry raises."""
        # Read before the list: what is handled in between is then not taken for deleted.
        handled = [known for follower in self._followers for known in await follower.handled(source)]
        if not handled:
            return
        store = self._regions[source.region].store
        try:
            listed = [tag async for tag in store.list_tags(source.name)]
        except NotFound:
            # Gateways say so too while a registry starts, so that this does not mean that its tags were deleted.
            return
        await self._forget_missing(listed, handled, source)

        async def look(tag: Tag) -> None:
            found = await store.head_manifest(source.name, tag, confirm_missing=True)
            if found is not None and any(known.get(tag) != found.digest for known in handled):
                await self.check(source, tag)

        await bounded_gather(listed, look, limit=_HEADS)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._process_ended_jobs())
            group.create_task(self._tags.serve(self._check_due, at_once=_CHECKS))
            group.create_task(self._sources.serve(self._scan_due, at_once=_SCANS))

    async def _check_due(self, work: _TagWork) -> None:
        source, tag = work
        await self._guarded(source, self.check(source, tag))

    async def _scan_due(self, source: RepositoryRef) -> None:
        if source in self._being_scanned:
            self._needs_full_scan |= not self._sources.add(source, self._clock() + _TICK_SECONDS)
            return
        self._being_scanned.add(source)
        try:
            await self._guarded(source, self.scan(source))
        finally:
            self._being_scanned.discard(source)
            self._polled_at[source] = self._clock()

    async def _guarded(self, source: RepositoryRef, work: Awaitable[None]) -> None:
        """Do a work at a source; if that goes wrong, look at all of the source again later."""
        try:
            await work
        except Exception as error:
            until, is_news = self._backoff.failed(source, reason_of(error))
            if is_news:
                log_error(
                    error,
                    "a repository that is followed cannot be looked at",
                    repository=str(source),
                )
            self._needs_full_scan |= not self._sources.add(source, until)
        else:
            if self._backoff.succeeded(source):
                log.info(
                    "a repository that is followed can be looked at again",
                    repository=str(source),
                )

    async def _process_ended_jobs(self) -> None:
        """What a job has brought to a place may have to go on from there."""
        while True:
            await self._has_ended_jobs.wait()
            self._has_ended_jobs.clear()
            ended, self._ended_jobs = sorted(self._ended_jobs), set()
            try:
                for start in range(0, len(ended), _ENDS_AT_ONCE):
                    for source, tag in await self._sync_history.copied_by(ended[start : start + _ENDS_AT_ONCE]):
                        self._schedule_check(source, tag)
            except Exception as error:
                self._needs_full_scan = True
                log_error(error, "what jobs have brought cannot be looked up")

    async def _poll(self) -> None:
        """Put what is to be polled on the agenda: everything when this process comes to lead, then in turn."""
        tick = min([_TICK_SECONDS, *self._poll_seconds.values()])
        while True:
            try:
                is_leader = await self._is_leader()
                everything = self._needs_full_scan or (is_leader and not self._was_leader)
                # Set before the sources are read: an end that is passed over until now stands in what is read then.
                self._was_leader = is_leader
                if everything or (is_leader and self._poll_seconds):
                    self._needs_full_scan = False
                    self._schedule(await self._followed_sources(), everything=everything)
            except Exception as error:
                self._needs_full_scan = True
                if self._backoff.failed(self, reason_of(error))[1]:
                    log_error(error, "what is followed cannot be looked up")
            else:
                self._backoff.succeeded(self)
            await asyncio.sleep(tick)

    async def _followed_sources(self) -> list[RepositoryRef]:
        return list(dict.fromkeys([source for follower in self._followers for source in await follower.sources()]))

    def _schedule(self, sources: list[RepositoryRef], *, everything: bool) -> None:
        now = self._clock()
        self._polled_at = {source: self._polled_at[source] for source in sources if source in self._polled_at}
        for source in sources:
            pause = self._poll_seconds.get(source.region)
            polled_at = self._polled_at.get(source)
            is_due = pause is not None and (polled_at is None or polled_at + pause <= now)
            if self._backoff.retry_at(source) is not None:
                continue
            if everything or (is_due and source not in self._being_scanned):
                self.repository_changed(source)

    def _schedule_check(self, source: RepositoryRef, tag: Tag, at: float | None = None) -> None:
        if not self._tags.add((source, tag), at):
            self.repository_changed(source)

    async def _forget_missing(self, listed: list[Tag], handled: list[Mapping[str, str]], source: RepositoryRef) -> None:
        present = set(listed)
        gone = sorted({Tag(tag) for known in handled for tag in known} - present)
        await self.forget(source.region, source.name, *gone)
