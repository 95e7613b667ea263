"""Watching tags: whoever follows a repository is told to look at a tag that may have changed.

Whether there is something to do is told by the digests alone: a tag that points to another one than it was last handled
for. Events only say where to look at once; what no event told of is found by polls.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from tagferry.automation.watch.scheduling import Again, Clock, Lanes, Patience, reason_of, tell
from tagferry.concurrency import bounded_gather
from tagferry.errors import InvalidName, NotFound
from tagferry.names import Digest, Reference, RegionId, RepositoryName, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.sync.jobs.history import Arrivals

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

OnPush = Callable[[RepositoryRef, Tag, Digest, str | None], Awaitable[None]]
"""Told of a push: the tag, where it points to, and by whom it was pushed if that is known."""
Leads = Callable[[], Awaitable[bool]]
_TagWork = tuple[RepositoryRef, Tag]


async def always() -> bool:
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

    async def check(self, source: RepositoryRef, tag: Tag) -> Again:
        """Look at a tag, and do what is to be done; raises what the source's registry raises."""
        ...

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Take tags, or all tags of these digests, that were deleted for never handled."""
        ...


class Watch:
    """Looks for tags that have changed, and has those who follow their repository look at them.

    Args:
        followers: who has something to do about tags.
        regions: where images are.
        arrivals: what sync jobs brought.
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
        arrivals: Arrivals,
        on_push: OnPush,
        poll_seconds: Mapping[RegionId, float],
        leads: Leads = always,
        agenda_limit: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        self._followers = followers
        self._regions = regions
        self._arrivals = arrivals
        self._on_push = on_push
        self._poll_seconds = poll_seconds
        self._leads = leads
        self._clock = clock
        self._tags: Lanes[_TagWork] = Lanes(agenda_limit, lambda work: work[0].region, clock)
        self._sources: Lanes[RepositoryRef] = Lanes(agenda_limit, lambda source: source.region, clock)
        self._polled_at: dict[RepositoryRef, float] = {}
        self._being_scanned: set[RepositoryRef] = set()
        self._agenda_limit = agenda_limit
        self._ended: set[int] = set()
        self._has_ended = asyncio.Event()
        self._led = False
        self._lost_track = False
        self._patience = Patience(shortest=5.0, longest=600.0, clock=clock)
        self._task: asyncio.Task[None] | None = None

    def notice(self, region: RegionId, repository: RepositoryName, tag: Tag) -> None:
        """A tag may have changed; it is looked at soon. Never fails, and never waits."""
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        self._look_at(source, tag)

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
            await self._on_push(source, tag, digest, by)
        except Exception as error:
            tell(error, "a push cannot be recorded for now", repository=str(source), tag=tag)
        self._look_at(source, tag)

    def notice_repository(self, source: RepositoryRef) -> None:
        """Any tag of a repository may have changed; all are looked at soon."""
        # Where there is no room, the next round finds whatever there is to find.
        self._lost_track |= not self._sources.add(source)

    async def look(self, source: RepositoryRef) -> None:
        """Look at all of a repository now, and later if that goes wrong. Never fails."""
        await self._guarded(source, self.scan(source))

    def notice_ends(self, payload: str) -> None:
        """Sync jobs have ended, of these ids, joined by commas; an empty text stands for any that nobody told of."""
        if not self._led:
            # Who leads looks at it, and who comes to lead looks at everything.
            return
        if not payload or len(self._ended) >= self._agenda_limit:
            self._lost_track = True
            return
        self._ended.update(int(job_id) for job_id in payload.split(","))
        self._has_ended.set()

    async def forget(self, region: RegionId, repository: RepositoryName, *references: Reference) -> None:
        """Tags, or all tags of these digests, were deleted: the same image, pushed again, is news."""
        try:
            source = RepositoryRef.of(region, repository)
        except InvalidName:
            return
        for start in range(0, len(references), _FORGOTTEN_AT_ONCE):
            for follower in self._followers:
                await follower.forget(source, *references[start : start + _FORGOTTEN_AT_ONCE])

    def start(self) -> None:
        """Begin to look, first at everything that is followed."""
        self._task = asyncio.create_task(self._run(), name="watching tags")

    async def close(self) -> None:
        """Stop looking; what was not looked at is found at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def check(self, source: RepositoryRef, tag: Tag) -> None:
        """Let everybody look at a tag who follows its repository; raises what the source's registry raises."""
        for follower in self._followers:
            again = await follower.check(source, tag)
            if again.at_tag is not None:
                self._look_at(source, tag, again.at_tag)
            if again.at_source is not None:
                self._lost_track |= not self._sources.add(source, again.at_source)

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
        await self._forget_all_but(listed, handled, source)

        async def look(tag: Tag) -> None:
            found = await store.head_manifest(source.name, tag, confirm_missing=True)
            if found is not None and any(known.get(tag) != found.digest for known in handled):
                await self.check(source, tag)

        await bounded_gather(listed, look, limit=_HEADS)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._follow_ends())
            group.create_task(self._tags.serve(self._check_due, at_once=_CHECKS))
            group.create_task(self._sources.serve(self._scan_due, at_once=_SCANS))

    async def _check_due(self, work: _TagWork) -> None:
        source, tag = work
        await self._guarded(source, self.check(source, tag))

    async def _scan_due(self, source: RepositoryRef) -> None:
        if source in self._being_scanned:
            self._lost_track |= not self._sources.add(source, self._clock() + _TICK_SECONDS)
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
            until, is_news = self._patience.fail(source, reason_of(error))
            if is_news:
                tell(
                    error,
                    "a repository that is followed cannot be looked at",
                    repository=str(source),
                )
            self._lost_track |= not self._sources.add(source, until)
        else:
            if self._patience.succeed(source):
                log.info(
                    "a repository that is followed can be looked at again",
                    repository=str(source),
                )

    async def _follow_ends(self) -> None:
        """What a job has brought to a place may have to go on from there."""
        while True:
            await self._has_ended.wait()
            self._has_ended.clear()
            ended, self._ended = sorted(self._ended), set()
            try:
                for start in range(0, len(ended), _ENDS_AT_ONCE):
                    for source, tag in await self._arrivals.brought_by(ended[start : start + _ENDS_AT_ONCE]):
                        self._look_at(source, tag)
            except Exception as error:
                self._lost_track = True
                tell(error, "what jobs have brought cannot be looked up")

    async def _poll(self) -> None:
        """Put what is to be polled on the agenda: everything when this process comes to lead, then in turn."""
        tick = min([_TICK_SECONDS, *self._poll_seconds.values()])
        while True:
            try:
                leads = await self._leads()
                everything = self._lost_track or (leads and not self._led)
                # Set before the sources are read: an end that is passed over until now stands in what is read then.
                self._led = leads
                if everything or (leads and self._poll_seconds):
                    self._lost_track = False
                    self._plan(await self._followed(), everything=everything)
            except Exception as error:
                self._lost_track = True
                if self._patience.fail(self, reason_of(error))[1]:
                    tell(error, "what is followed cannot be looked up")
            else:
                self._patience.succeed(self)
            await asyncio.sleep(tick)

    async def _followed(self) -> list[RepositoryRef]:
        return list(dict.fromkeys([source for follower in self._followers for source in await follower.sources()]))

    def _plan(self, sources: list[RepositoryRef], *, everything: bool) -> None:
        now = self._clock()
        self._polled_at = {source: self._polled_at[source] for source in sources if source in self._polled_at}
        for source in sources:
            pause = self._poll_seconds.get(source.region)
            polled_at = self._polled_at.get(source)
            is_due = pause is not None and (polled_at is None or polled_at + pause <= now)
            if self._patience.until(source) is not None:
                continue
            if everything or (is_due and source not in self._being_scanned):
                self.notice_repository(source)

    def _look_at(self, source: RepositoryRef, tag: Tag, at: float | None = None) -> None:
        if not self._tags.add((source, tag), at):
            self.notice_repository(source)

    async def _forget_all_but(self, listed: list[Tag], handled: list[Mapping[str, str]], source: RepositoryRef) -> None:
        standing = set(listed)
        gone = sorted({Tag(tag) for known in handled for tag in known} - standing)
        await self.forget(source.region, source.name, *gone)
