"""Detect changed tags and notify followers.

A tag has changed if its digest differs from the one last handled. Events only speed up detection; polls find changes
without an event.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from tagferry.automation.watch.scheduling import Backoff, Clock, DelayQueues, Recheck, log_error, reason_of
from tagferry.concurrency import bounded_gather
from tagferry.errors import InvalidName, NotFound
from tagferry.names import Digest, Reference, RegionId, RepositoryName, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.supervision import Supervisor, surfacing
from tagferry.sync.jobs.history import SyncHistory

_CHECKS = 8
"""Concurrent checks of tags in one region after events."""
_SCANS = 4
"""Concurrent scans of repositories in one region."""
_HEADS = 8
"""Concurrent HEAD requests in one scan."""
_TICK_SECONDS = 5.0
_UNTIL_WRITTEN_SECONDS = (0.2, 1.0, 5.0, 30.0)
"""The pauses between the checks of a tag whose event arrived before the registry had written the tag."""
_FORGOTTEN_AT_ONCE = 500
_ENDS_AT_ONCE = 500

log = structlog.get_logger(__name__)

IsLeader = Callable[[], Awaitable[bool]]
_TagWork = tuple[RepositoryRef, Tag]


@dataclass(frozen=True, slots=True)
class _Announced:
    """The digest of a tag by its last event, and the number of checks that did not find it."""

    digest: Digest
    checks: int = 0


async def always_leader() -> bool:
    """Return True: the only process is always the leader."""
    return True


class Follower(Protocol):
    """A component that acts on tag changes in certain repositories."""

    async def sources(self) -> list[RepositoryRef]:
        """Return the followed repositories."""
        ...

    async def handled(self, source: RepositoryRef) -> list[Mapping[str, str]]:
        """Return the digests last handled, by tag: one mapping for each rule or trigger of the repository.

        The list is empty if the repository is not followed or this process cannot act on it.
        """
        ...

    async def check(self, source: RepositoryRef, tag: Tag) -> Recheck:
        """Check a tag and act on a change; raises the errors of the source's registry."""
        ...

    async def pushed(self, source: RepositoryRef, tag: Tag, digest: Digest, by: str | None) -> bool:
        """Record a push before its client gets the response; return whether the tag must be checked afterwards.

        Args:
            source: the repository.
            tag: the tag, which is stored already.
            digest: the digest that it points to.
            by: the user who pushed it, if known.
        """
        ...

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Forget what was handled for deleted tags, given by tag or by digest."""
        ...


class TagWatcher:
    """Detects changed tags and has the followers of their repository check them. A reload changes `poll_intervals`.

    Args:
        followers: act on tag changes.
        regions: the configured regions.
        sync_history: looks up which tags sync jobs have copied.
        poll_intervals: the regions to poll, with the seconds between two polls of a repository.
        is_leader: returns whether this process is the leader, which polls and handles ended jobs.
        queue_limit: maximum number of queued tags and repositories of a region, and of ended jobs; a full scan covers
            the rest.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        *,
        followers: Sequence[Follower],
        regions: Regions,
        sync_history: SyncHistory,
        poll_intervals: Mapping[RegionId, float],
        is_leader: IsLeader = always_leader,
        queue_limit: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        self._followers = followers
        self._regions = regions
        self._sync_history = sync_history
        self.poll_intervals = poll_intervals
        self._is_leader = is_leader
        self._clock = clock
        self._tags: DelayQueues[_TagWork] = DelayQueues(queue_limit, lambda work: work[0].region, clock)
        self._sources: DelayQueues[RepositoryRef] = DelayQueues(queue_limit, lambda source: source.region, clock)
        self._polled_at: dict[RepositoryRef, float] = {}
        self._being_scanned: set[RepositoryRef] = set()
        self._announced: dict[_TagWork, _Announced] = {}
        self._queue_limit = queue_limit
        self._ended_jobs: set[int] = set()
        self._has_ended_jobs = asyncio.Event()
        self._was_leader = False
        self._needs_full_scan = False
        self._backoff = Backoff(initial=5.0, maximum=600.0, clock=clock)
        self._task: asyncio.Task[NoReturn] | None = None

    def tag_changed(self, region: RegionId, repository: RepositoryName, tag: Tag, digest: Digest | None = None) -> None:
        """Schedule a check of a tag that may have changed. Returns at once and never raises.

        If the event names a digest, the check is repeated until the tag has it, within 40 seconds.
        """
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        self._announced.pop((source, tag), None)
        if digest is not None and len(self._announced) < self._queue_limit:
            self._announced[source, tag] = _Announced(digest)
        self._schedule_check(source, tag)

    async def pushed(
        self, region: RegionId, repository: RepositoryName, tag: Tag, digest: Digest, by: str | None
    ) -> None:
        """Record a push through this process, and schedule a check of the tag if a rule or trigger follows it.

        Never raises: a push that cannot be recorded is detected by the check.
        """
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        is_followed = False
        for follower in self._followers:
            try:
                is_followed |= await follower.pushed(source, tag, digest, by)
            except Exception as error:
                log_error(error, "a push could not be recorded", repository=str(source), tag=tag)
                is_followed = True
        if is_followed:
            self._schedule_check(source, tag)

    def repository_changed(self, source: RepositoryRef) -> None:
        """Schedule a scan of a repository."""
        # If the queue is full, the next full scan covers this repository.
        self._needs_full_scan |= not self._sources.add(source)

    def regions_changed(self) -> None:
        """Scan every followed repository within seconds, also those that could not be scanned."""
        self._backoff.reset()
        self._needs_full_scan = True

    async def try_scan(self, source: RepositoryRef) -> None:
        """Scan a repository now; after a failure, schedule another scan. Never raises."""
        await self._guarded(source, self.scan(source))

    def jobs_ended(self, job_ids: Sequence[int]) -> None:
        """Handle the end of sync jobs; an empty sequence means that messages may have been lost."""
        if not self._was_leader:
            # The leader handles it, and a new leader begins with a full scan.
            return
        if not job_ids or len(self._ended_jobs) >= self._queue_limit:
            self._needs_full_scan = True
            return
        self._ended_jobs.update(job_ids)
        self._has_ended_jobs.set()

    async def forget(self, region: RegionId, repository: RepositoryName, *references: Reference) -> None:
        """Forget deleted tags, given by tag or by digest, so that a new push of the same image counts as a change."""
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        for start in range(0, len(references), _FORGOTTEN_AT_ONCE):
            for follower in self._followers:
                await follower.forget(source, *references[start : start + _FORGOTTEN_AT_ONCE])

    def start(self, supervisor: Supervisor) -> None:
        """Start watching, with a scan of every followed repository."""
        self._task = supervisor.start("watching tags", self._run, is_essential=True)

    async def close(self) -> None:
        """Stop watching; the next start detects the changes made since."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def check(self, source: RepositoryRef, tag: Tag) -> None:
        """Have every follower check a tag; raises the errors of the source's registry."""
        announced = self._announced.pop((source, tag), None)
        found = set()
        for follower in self._followers:
            again = await follower.check(source, tag)
            found.add(again.found)
            if again.tag_at is not None:
                self._schedule_check(source, tag, again.tag_at)
            if again.source_at is not None:
                self._needs_full_scan |= not self._sources.add(source, again.source_at)
        if announced is not None and not found <= {None, announced.digest}:
            self._await_digest(source, tag, announced)

    async def scan(self, source: RepositoryRef) -> None:
        """Check all tags of a repository, by one list and one HEAD per tag; raises the errors of its registry."""
        # Read before the list: a tag handled in between must not count as deleted.
        handled = [known for follower in self._followers for known in await follower.handled(source)]
        if not handled:
            return
        store = self._regions[source.region].store
        try:
            listed = [tag async for tag in store.list_tags(source.name)]
        except NotFound:
            # Gateways answer 404 while a registry starts, so this does not prove that the tags were deleted.
            return
        await self._forget_missing(listed, handled, source)

        async def check_tag(tag: Tag) -> None:
            found = await store.head_manifest(source.name, tag, confirm_missing=True)
            if found is not None and any(known.get(tag) != found.digest for known in handled):
                await self.check(source, tag)

        await bounded_gather(listed, check_tag, limit=_HEADS)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(surfacing(self._poll()))
            group.create_task(surfacing(self._process_ended_jobs()))
            group.create_task(self._tags.serve(self._check_due, concurrency=_CHECKS))
            group.create_task(self._sources.serve(self._scan_due, concurrency=_SCANS))

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
        """Run a check or scan; after a failure, schedule a scan of the whole repository."""
        try:
            await work
        except Exception as error:
            until, is_news = self._backoff.failed(source, reason_of(error))
            if is_news:
                log_error(
                    error,
                    "a followed repository could not be checked",
                    repository=str(source),
                )
            self._needs_full_scan |= not self._sources.add(source, until)
        else:
            if self._backoff.succeeded(source):
                log.info(
                    "a followed repository can be checked again",
                    repository=str(source),
                )

    async def _process_ended_jobs(self) -> None:
        """Check the tags that ended jobs have copied: their new repository may have rules of its own."""
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
                log_error(error, "the tags copied by ended jobs could not be looked up")

    async def _poll(self) -> None:
        """Schedule scans: of everything when this process becomes the leader, then of each repository when due."""
        while True:
            try:
                is_leader = await self._is_leader()
                everything = self._needs_full_scan or (is_leader and not self._was_leader)
                # Set before the sources are read: jobs whose end was ignored until now are covered by that read.
                self._was_leader = is_leader
                if everything or (is_leader and self.poll_intervals):
                    self._needs_full_scan = False
                    self._schedule(await self._followed_sources(), everything=everything)
            except Exception as error:
                self._needs_full_scan = True
                if self._backoff.failed(self, reason_of(error))[1]:
                    log_error(error, "the followed repositories could not be looked up")
            else:
                self._backoff.succeeded(self)
            await asyncio.sleep(min([_TICK_SECONDS, *self.poll_intervals.values()]))

    async def _followed_sources(self) -> list[RepositoryRef]:
        return list(dict.fromkeys([source for follower in self._followers for source in await follower.sources()]))

    def _schedule(self, sources: list[RepositoryRef], *, everything: bool) -> None:
        now = self._clock()
        self._polled_at = {source: self._polled_at[source] for source in sources if source in self._polled_at}
        for source in sources:
            pause = self.poll_intervals.get(source.region)
            polled_at = self._polled_at.get(source)
            is_due = pause is not None and (polled_at is None or polled_at + pause <= now)
            if self._backoff.retry_at(source) is not None:
                continue
            if everything or (is_due and source not in self._being_scanned):
                self.repository_changed(source)

    def _schedule_check(self, source: RepositoryRef, tag: Tag, at: float | None = None) -> None:
        if not self._tags.add((source, tag), at):
            self.repository_changed(source)

    def _await_digest(self, source: RepositoryRef, tag: Tag, announced: _Announced) -> None:
        """Check a tag again that does not have the digest of its event.

        CNCF distribution sends the event of a push before it writes the tag.
        """
        is_superseded = (source, tag) in self._announced
        if is_superseded or announced.checks == len(_UNTIL_WRITTEN_SECONDS):
            return
        self._announced[source, tag] = _Announced(announced.digest, announced.checks + 1)
        self._schedule_check(source, tag, self._clock() + _UNTIL_WRITTEN_SECONDS[announced.checks])

    async def _forget_missing(self, listed: list[Tag], handled: list[Mapping[str, str]], source: RepositoryRef) -> None:
        present = set(listed)
        deleted = sorted({Tag(tag) for known in handled for tag in known} - present)
        await self.forget(source.region, source.name, *deleted)
