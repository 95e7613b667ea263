"""Run retention policies: once when created or changed, then at an interval.

The leader process runs them. The database records when each policy last ran, so that a new leader continues from there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import structlog

from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.observed import ObservedTags, observe
from tagferry.automation.retention.rules import ExpiredTag, Rule, RuleSet, expired_tags
from tagferry.automation.retention.store import Policies, Policy
from tagferry.automation.watch.scheduling import Backoff, DelayQueues, log_error, reason_of
from tagferry.catalog import delete_tag
from tagferry.errors import Conflict, NotDeleted, NotFound
from tagferry.eventual import Progress
from tagferry.metrics import RETENTION_RUNS
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.regions import Regions
from tagferry.supervision import Supervisor, surfacing

_RUNS = 4
"""Concurrent runs of policies in one region."""
_RUN_SECONDS = 3600.0
"""The timeout of a run; it is repeated later."""
_TICK_SECONDS = 5.0
_QUEUE_LIMIT = 10_000
"""Queued policies of one region; the next look-up finds the rest."""
_REST = timedelta(hours=1)
"""The pause after a run that reached its limit of deletions."""
_LAST_SECONDS = 10.0
"""The time that `close` waits for a deletion in progress to be recorded."""

log = structlog.get_logger(__name__)

Forget = Callable[[RegionId, RepositoryName, Tag], Awaitable[None]]


def now_utc() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


class RetentionRunner:
    """Deletes the tags that expire by policies. A reload changes `interval` and `run_limit`.

    Args:
        regions: the configured regions.
        policies: the stored policies.
        observed_tags: the tags as past runs observed them.
        history: records the deleted tags.
        forget: called with every deleted tag.
        is_leader: returns whether this process is the leader, which runs policies.
        interval: the time between two runs of a policy.
        clock: returns the current time.
        is_plausible: returns whether the clock can be trusted now.
        run_limit: maximum number of deletions in one run; later runs delete the rest.
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
        run_limit: int = 100,
    ) -> None:
        self._regions = regions
        self._policies = policies
        self._observed_tags = observed_tags
        self._history = history
        self._forget = forget
        self._is_leader = is_leader
        self.interval = interval
        self._clock = clock
        self._is_plausible = is_plausible
        self.run_limit = run_limit
        self._backoff = Backoff(initial=60.0, maximum=3600.0)
        self._queue: DelayQueues[tuple[int, RegionId]] = DelayQueues(_QUEUE_LIMIT, lambda due: due[1])
        self._running: set[int] = set()
        self._woken = asyncio.Event()
        self._deleting: set[asyncio.Task[list[Tag]]] = set()
        self._task: asyncio.Task[NoReturn] | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Start running policies, first those that became due while no process was running."""
        self._task = supervisor.start("retention", self._run)

    async def close(self) -> None:
        """Stop deleting; due policies run after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._deleting:
            await asyncio.wait(self._deleting, timeout=_LAST_SECONDS)

    def wake(self) -> None:
        """Look up due policies now, after one was created or changed; another leader does so within seconds."""
        self._woken.set()

    async def plan(
        self,
        region: RegionId,
        name: RepositoryName,
        policy: Policy | None,
        rules: Sequence[Rule],
        *,
        progress: Progress | None = None,
    ) -> list[ExpiredTag]:
        """Return the tags that would be deleted now by these rules, without deleting them.

        Args:
            region: the region of the repository.
            name: the repository.
            policy: the repository's policy, if it has one, whose past observations are used.
            rules: the rules to try.
            progress: the number of tags that were observed.
        """
        now = self._clock()
        known = await self._observed_tags.of(policy.id) if policy is not None else {}
        try:
            seen = await observe(self._regions[region].store, name, known, now=now, progress=progress)
        except NotFound:
            return []
        return await asyncio.to_thread(expired_tags, seen, rules, now)

    async def run(self, policy: Policy) -> int:
        """Delete the tags that expire now by a policy, up to the limit of one run; return their number.

        Raises the errors of the repository's registry.
        """
        store, now = self._regions[policy.region].store, self._clock()
        known = await self._observed_tags.of(policy.id)
        try:
            seen = await observe(store, policy.name, known, now=now)
        except NotFound:
            # Gateways answer 404 while a registry starts, so the observed tags are kept.
            return 0
        await self._observed_tags.keep(policy.id, known, seen)
        # Matching expressions against many tags may take long, and must not delay requests.
        rules = (await asyncio.to_thread(RuleSet.parse, policy.rules)).rules
        expired = {one.record.tag: one for one in await asyncio.to_thread(expired_tags, seen, rules, now)}
        return await self._delete_all(policy, expired)

    async def _delete_all(self, policy: Policy, expired: dict[Tag, ExpiredTag]) -> int:
        lists: dict[Digest, frozenset[Digest]] = {}
        deleted: set[Tag] = set()
        for tag in expired:
            if tag in deleted:
                continue
            if len(deleted) >= self.run_limit:
                log.warning(
                    "retention reached its limit of tags; the rest follow in the next run",
                    policy=policy.id,
                    region=policy.region,
                    repository=policy.name,
                    deleted=len(deleted),
                    left=len(expired) - len(deleted),
                )
                break
            if not await self._policies.is_current(policy) or not await self._trusts_the_clock():
                break
            work = asyncio.create_task(self._delete(policy, tag, expired, lists))
            self._deleting.add(work)
            work.add_done_callback(self._deleting.discard)
            try:
                # Shielded: a cancelled run still records what it has deleted.
                deleted.update(await asyncio.shield(work))
            except NotFound:
                continue
            except (Conflict, NotDeleted) as error:
                log_error(error, "retention could not delete a tag", policy=policy.id, region=policy.region)
        return len(deleted)

    async def _delete(
        self, policy: Policy, tag: Tag, expired: dict[Tag, ExpiredTag], lists: dict[Digest, frozenset[Digest]]
    ) -> list[Tag]:
        """Delete a tag, unless it has changed since it was observed, and record the deletion."""
        deleted = await delete_tag(
            self._regions[policy.region].store,
            policy.name,
            tag,
            seen=expired[tag].record,
            deleting=[one.record for one in expired.values()],
            listed=lists,
        )
        for one in (expired[one] for one in deleted):
            log.info(
                "retention deleted a tag",
                policy=policy.id,
                region=policy.region,
                repository=policy.name,
                tag=one.record.tag,
                digest=one.record.digest,
                rule=one.template.value,
            )
            await self._history.add(policy, one)
            await self._forget(policy.region, policy.name, one.record.tag)
        return deleted

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(surfacing(self._poll()))
            group.create_task(self._queue.serve(self._run_due, concurrency=_RUNS))

    async def _poll(self) -> None:
        while True:
            self._woken.clear()
            try:
                if await self._is_leader() and await self._trusts_the_clock():
                    for due in await self._policies.due(ran_before=self._clock() - self.interval):
                        if due[0] not in self._running and self._backoff.retry_at(due[0]) is None:
                            self._queue.add(due)
            except Exception as error:
                if self._backoff.failed(self, reason_of(error))[1]:
                    log_error(error, "due retention policies could not be looked up")
            else:
                self._backoff.succeeded(self)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_TICK_SECONDS, self.interval.total_seconds())):
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
        """Run a policy; after a failure, retry it later."""
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                # A look-up that began before the last run ended still lists the policy.
                policy = await self._policies.find(policy_id, ran_before=self._clock() - self.interval)
                if policy is None or not await self._is_leader() or not await self._trusts_the_clock():
                    return
                now = self._clock()
                deleted = await self.run(policy)
                log.info("a retention policy ran", policy=policy_id, name=policy.name, deleted=deleted)
                if deleted >= self.run_limit:
                    # The rest is deleted soon, not after a whole interval.
                    now = min(now, now - self.interval + _REST)
                await self._policies.ran(policy, now)
                RETENTION_RUNS.labels(status="success").inc()
        except Exception as error:
            RETENTION_RUNS.labels(status="failed").inc()
            if self._backoff.failed(policy_id, reason_of(error))[1]:
                log_error(error, "a retention policy failed", policy=policy_id)
        else:
            self._backoff.succeeded(policy_id)
