"""Carries policies out: each when it was made or changed, and from then on once in an interval.

One process does it, the one that leads. When a policy was last carried out is in the database, so that whoever comes to
lead goes on where another has left off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import structlog

from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.observed import ObservedTags, look
from tagferry.automation.retention.rules import ExpiredTag, Rule, RuleSet, expired_tags
from tagferry.automation.retention.store import Policies, Policy
from tagferry.automation.watch.scheduling import Backoff, DelayQueues, log_error, reason_of
from tagferry.catalog import delete_tag
from tagferry.errors import Conflict, NotDeleted, NotFound
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.regions import Regions
from tagferry.supervision import Supervisor

_RUNS = 4
"""Policies of one region that are carried out at the same time."""
_RUN_SECONDS = 3600.0
"""After which one that has not come to its end is left for later."""
_TICK_SECONDS = 5.0
_QUEUE_LIMIT = 10_000
"""Policies of one region that wait their turn; what is more is found by the next look."""
_REST = timedelta(hours=1)
"""How long after a run that deleted as much as it may the next one is due."""
_LAST_SECONDS = 10.0
"""How long, at the end, a deletion under way may take to get on record."""

log = structlog.get_logger(__name__)

Forget = Callable[[RegionId, RepositoryName, Tag], Awaitable[None]]


def now_utc() -> datetime:
    """The time."""
    return datetime.now(UTC)


class RetentionRunner:
    """Deletes what policies let go.

    Args:
        regions: where images are.
        policies: which repository has which.
        sightings: what they remember of tags.
        history: what they have deleted.
        forget: told of every tag that was deleted, as of those that people delete.
        leads: whether this process does it.
        interval: how long after a policy was carried out the next time is due.
        clock: the time.
        is_plausible: whether that may be believed now.
        most: tags that one run deletes at most; the rest is deleted by those that follow.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        policies: Policies,
        observed_tags: ObservedTags,
        history: DeletionHistory,
        forget: Forget,
        is_leader: Callable[[], Awaitable[bool]],
        interval: timedelta,
        clock: Callable[[], datetime] = now_utc,
        is_plausible: Callable[[], Awaitable[bool]] | None = None,
        most: int = 100,
    ) -> None:
        self._regions = regions
        self._policies = policies
        self._sightings = observed_tags
        self._history = history
        self._forget = forget
        self._is_leader = is_leader
        self._interval = interval
        self._clock = clock
        self._is_plausible = is_plausible
        self._most = most
        self._backoff = Backoff(initial=60.0, maximum=3600.0)
        self._queue: DelayQueues[tuple[int, RegionId]] = DelayQueues(_QUEUE_LIMIT, lambda due: due[1])
        self._running: set[int] = set()
        self._woken = asyncio.Event()
        self._deleting: set[asyncio.Task[list[Tag]]] = set()
        self._task: asyncio.Task[NoReturn] | None = None

    def start(self, supervisor: Supervisor | None = None) -> None:
        """Begin to carry policies out, first those that became due while nothing ran."""
        self._task = (supervisor or Supervisor()).start("retention", self._run)

    async def close(self) -> None:
        """Delete nothing more; what is due is done after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._deleting:
            await asyncio.wait(self._deleting, timeout=_LAST_SECONDS)

    def wake(self) -> None:
        """A policy was made or changed; it is carried out now, if this process leads, and else within seconds."""
        self._woken.set()

    async def plan(
        self, region: RegionId, name: RepositoryName, policy: Policy | None, rules: Sequence[Rule]
    ) -> list[ExpiredTag]:
        """Which tags would go by these rules now; nothing is deleted.

        Args:
            region: where the repository is.
            name: the repository.
            policy: the one that it has, which remembers its tags.
            rules: those that are to be tried.
        """
        now = self._clock()
        known = await self._sightings.of(policy.id) if policy is not None else {}
        try:
            seen = await look(self._regions[region].store, name, known, now=now)
        except NotFound:
            return []
        return await asyncio.to_thread(expired_tags, seen, rules, now)

    async def run(self, policy: Policy) -> int:
        """Delete what a policy lets go now, as much as one run may; returns how many tags.

        Raises what the repository's registry raises.
        """
        store, now = self._regions[policy.region].store, self._clock()
        known = await self._sightings.of(policy.id)
        try:
            seen = await look(store, policy.name, known, now=now)
        except NotFound:
            # Gateways say so too while a registry starts, so that nothing is forgotten for it.
            return 0
        await self._sightings.keep(policy.id, known, seen)
        # A policy's expressions may take a while for many tags, and requests need not wait for that.
        rules = (await asyncio.to_thread(RuleSet.parse, policy.rules)).rules
        going = {gone.record.tag: gone for gone in await asyncio.to_thread(expired_tags, seen, rules, now)}
        return await self._delete_all(policy, going)

    async def _delete_all(self, policy: Policy, going: dict[Tag, ExpiredTag]) -> int:
        lists: dict[Digest, frozenset[Digest]] = {}
        deleted: set[Tag] = set()
        for tag in going:
            if tag in deleted:
                continue
            if len(deleted) >= self._most:
                log.warning(
                    "retention reached its limit of tags; the rest follow in the next run",
                    policy=policy.id,
                    region=policy.region,
                    repository=policy.name,
                    deleted=len(deleted),
                    left=len(going) - len(deleted),
                )
                break
            if not await self._policies.is_current(policy) or not await self._trusts_the_clock():
                break
            work = asyncio.create_task(self._delete(policy, tag, going, lists))
            self._deleting.add(work)
            work.add_done_callback(self._deleting.discard)
            try:
                # Whoever ends this process ends it after what was deleted is on record.
                deleted.update(await asyncio.shield(work))
            except NotFound:
                continue
            except (Conflict, NotDeleted) as error:
                log_error(error, "a tag stays that retention would delete", policy=policy.id, region=policy.region)
        return len(deleted)

    async def _delete(
        self, policy: Policy, tag: Tag, going: dict[Tag, ExpiredTag], lists: dict[Digest, frozenset[Digest]]
    ) -> list[Tag]:
        """Delete a tag if it is still as it was seen, and tell of what was deleted."""
        deleted = await delete_tag(
            self._regions[policy.region].store,
            policy.name,
            tag,
            seen=going[tag].record,
            deleting=[gone.record for gone in going.values()],
            listed=lists,
        )
        for gone in (going[one] for one in deleted):
            log.info(
                "retention deleted a tag",
                policy=policy.id,
                region=policy.region,
                repository=policy.name,
                tag=gone.record.tag,
                digest=gone.record.digest,
                rule=gone.template.value,
            )
            await self._history.add(policy, gone)
            await self._forget(policy.region, policy.name, gone.record.tag)
        return deleted

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._queue.serve(self._run_due, at_once=_RUNS))

    async def _poll(self) -> None:
        while True:
            self._woken.clear()
            try:
                if await self._is_leader() and await self._trusts_the_clock():
                    for due in await self._policies.due(ran_before=self._clock() - self._interval):
                        if due[0] not in self._running and self._backoff.retry_at(due[0]) is None:
                            self._queue.add(due)
            except Exception as error:
                if self._backoff.failed(self, reason_of(error))[1]:
                    log_error(error, "retention policies cannot be looked up")
            else:
                self._backoff.succeeded(self)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_TICK_SECONDS, self._interval.total_seconds())):
                    await self._woken.wait()

    async def _run_due(self, due: tuple[int, RegionId]) -> None:
        policy_id, _ = due
        self._running.add(policy_id)
        try:
            await self._guarded(policy_id)
        finally:
            self._running.discard(policy_id)

    async def _trusts_the_clock(self) -> bool:
        return self._is_plausible is None or await self._is_plausible()

    async def _guarded(self, policy_id: int) -> None:
        """Carry a policy out; if that goes wrong, try again later."""
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                policy = await self._policies.find(policy_id)
                if policy is None or not await self._is_leader() or not await self._trusts_the_clock():
                    return
                now = self._clock()
                deleted = await self.run(policy)
                log.info("a retention policy was carried out", policy=policy_id, name=policy.name, deleted=deleted)
                if deleted >= self._most:
                    # What is left goes sooner than in the next interval.
                    now = min(now, now - self._interval + _REST)
                await self._policies.ran(policy, now)
        except Exception as error:
            if self._backoff.failed(policy_id, reason_of(error))[1]:
                log_error(error, "a retention policy cannot be carried out", policy=policy_id)
        else:
            self._backoff.succeeded(policy_id)
