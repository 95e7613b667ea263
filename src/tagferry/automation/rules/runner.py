"""Apply rules to changed tags: detect the change, prevent loops, and start the sync."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from weakref import WeakValueDictionary

import structlog

from tagferry.accounts.users import Users
from tagferry.automation.rules.store import CREATOR_IS_GONE, Handled, Rule, Rules
from tagferry.automation.watch.scheduling import Backoff, Clock, Recheck, log_error, reason_of
from tagferry.errors import Denied
from tagferry.names import Digest, Reference, Repository, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.sync.jobs.history import SyncHistory, TagHistory, rule_request_id
from tagferry.sync.jobs.model import SyncRequest
from tagferry.sync.jobs.searches import ReferrerSearches, Target
from tagferry.sync.service import StartedSync

_MAX_HOPS = 32

log = structlog.get_logger(__name__)

Start = Callable[[SyncRequest], Awaitable[StartedSync]]


class RuleRunner:
    """Starts the syncs that rules demand for changed tags; a `Follower` of tags.

    Args:
        regions: the configured regions; rules from or to other regions are inactive.
        rules: the stored rules, and what each has handled.
        sync_history: looks up which jobs have copied a tag.
        searches: unfinished searches for signatures.
        users: the creators of rules, on whose behalf rules act.
        start: accepts a sync request.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        rules: Rules,
        sync_history: SyncHistory,
        searches: ReferrerSearches,
        users: Users,
        start: Start,
        clock: Clock = time.monotonic,
    ) -> None:
        self._regions = regions
        self._rules = rules
        self._sync_history = sync_history
        self._searches = searches
        self._users = users
        self._start = start
        self._clock = clock
        self._backoff = Backoff(initial=5.0, maximum=600.0, clock=clock)
        self._open_job_backoff = Backoff(initial=1.0, maximum=60.0, clock=clock)
        self._locks: WeakValueDictionary[tuple[Repository, Tag], asyncio.Lock] = WeakValueDictionary()

    async def active(self, source: RepositoryRef) -> list[Rule]:
        """Return the enabled rules of a repository whose regions this process knows."""
        if source.region not in self._regions:
            return []
        rules = await self._rules.of_repository(source, only_active=True)
        return [rule for rule in rules if rule.target_region in self._regions]

    async def sources(self) -> list[RepositoryRef]:
        """Return the repositories with an enabled rule."""
        return await self._rules.sources()

    async def handled(self, source: RepositoryRef) -> list[Mapping[str, str]]:
        """Return the digests last handled, by tag, for each active rule of a repository.

        The digest is empty for tags whose search for signatures may have to be repeated.
        """
        rules = await self.active(source)
        digests = await self._rules.handled_digests([rule.id for rule in rules])
        pending = await self._searches.pending(source) if rules else {}
        for rule in rules:
            known = digests[rule.id]
            known |= {tag: "" for tag in pending.get(_target(rule), ()) if tag in known}
        return list(digests.values())

    async def pushed(self, source: RepositoryRef, _tag: Tag, _digest: Digest, _by: str | None) -> bool:
        """Return whether a pushed tag must be checked. A rule that is created meanwhile has its repository scanned."""
        return bool(await self.active(source))

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Forget what was handled for deleted tags, given by tag or by digest."""
        await self._rules.forget(source, *references)

    async def check(self, source: RepositoryRef, tag: Tag) -> Recheck:
        """Check a tag and start the syncs that its rules demand; raises the errors of the source's registry."""
        rules = await self.active(source)
        if not rules:
            return Recheck()
        # Serialized, so that two opposite rules see the jobs that the other has just started.
        lock = self._locks.setdefault((source.repository, tag), asyncio.Lock())
        async with lock:
            return await self._check_rules(rules, source, tag)

    async def _check_rules(self, rules: list[Rule], source: RepositoryRef, tag: Tag) -> Recheck:
        found = await self._regions[source.region].store.head_manifest(source.name, tag, confirm_missing=True)
        if found is None:
            return Recheck(found="")
        return replace(await self._check_digest(rules, source, tag, found.digest), found=found.digest)

    async def _check_digest(self, rules: list[Rule], source: RepositoryRef, tag: Tag, digest: Digest) -> Recheck:
        handled = await self._rules.handled([rule.id for rule in rules], tag)
        changed = [rule for rule in rules if rule.id not in handled or handled[rule.id].digest != digest]
        again = await self._retry_search([rule for rule in rules if rule not in changed], handled, tag)
        if not changed:
            return again
        # Read after the registry: a job that wrote the tag is then either open or recorded as finished.
        history = await self._sync_history.of_tag(source, tag, digest)
        if history.has_open_job:
            return Recheck(tag_at=self._open_job_backoff.failed((source, tag))[0])
        times = [again]
        for rule in changed:
            before = handled.get(rule.id) or Handled(digest=None, latest_job_id=rule.latest_job_id)
            times.append(await self._apply(rule, tag, digest, before, history))
        earliest = _earliest(times)
        if earliest.tag_at is None:
            self._open_job_backoff.succeeded((source, tag))
        return earliest

    async def _apply(self, rule: Rule, tag: Tag, digest: Digest, before: Handled, history: TagHistory) -> Recheck:
        """Handle a tag for a rule, or back off until the rule can run."""
        hops = await self._hops(tag, before, history)
        done = Handled(digest, max(before.latest_job_id, history.latest_job_id), hops)
        if rule.target_organization in hops:
            # The content has passed through the target: copying it back would loop forever.
            await self._rules.record(rule.id, tag, done)
            return Recheck()

        async def start() -> bool:
            if before.hops != hops:
                # The rules of the target read the origin of the copy here.
                await self._rules.record(rule.id, tag, replace(before, hops=hops))
            is_handled = await self._start_sync(rule, tag)
            if is_handled:
                await self._rules.record(rule.id, tag, done)
            return is_handled

        return await self._guarded(rule, tag, start)

    async def _retry_search(self, rules: list[Rule], handled: Mapping[int, Handled], tag: Tag) -> Recheck:
        """Search again for signatures of handled tags if an earlier search did not finish."""
        # Content is not copied back to where it came from.
        sent = [rule for rule in rules if rule.target_organization not in handled[rule.id].hops]
        if not sent:
            return Recheck()
        source, targets = sent[0].source, [_target(rule) for rule in sent]
        # Read once: a time that passes during this check would be neither overdue nor waited for.
        now, began = datetime.now(UTC), self._clock()
        due = await self._searches.due(source, tag, targets)
        overdue = [rule for rule in sent if (at := due.get(_target(rule))) is not None and at <= now]
        times = [await self._guarded(rule, tag, partial(self._start_sync, rule, tag)) for rule in overdue]
        if overdue:
            # A search that found the tag up to date has ended without an event.
            due = await self._searches.due(source, tag, targets)
        times += [Recheck(tag_at=began + (at - now).total_seconds()) for at in due.values() if at > now]
        return _earliest(times)

    async def _guarded(self, rule: Rule, tag: Tag, start: Callable[[], Awaitable[bool]]) -> Recheck:
        """Start a sync, unless the rule is in backoff after an earlier failure."""
        # Keyed by version: an update of the rule may have corrected it.
        version = (rule.id, rule.updated_at)
        if (until := self._backoff.retry_at(version)) is not None:
            return Recheck(source_at=until)
        try:
            is_handled = await start()
        except Exception as error:
            until, is_news = self._backoff.failed(version, reason_of(error))
            if is_news:
                log_error(error, "a rule could not start a sync", **_log_fields(rule), tag=tag)
            return Recheck(source_at=until)
        if self._backoff.succeeded(version):
            log.info("a rule can start syncs again", **_log_fields(rule), tag=tag)
        return Recheck() if is_handled else Recheck(tag_at=self._open_job_backoff.failed((rule.source, tag))[0])

    async def _hops(self, tag: Tag, before: Handled, history: TagHistory) -> tuple[str, ...]:
        """Return the organizations that the content has passed through, nearest first; empty if it was pushed here."""
        brought = history.copied_by
        if brought is None or brought.job_id <= before.latest_job_id:
            return ()
        if brought.rule_id is None:
            return (brought.source,)
        origin = (await self._rules.handled([brought.rule_id], tag)).get(brought.rule_id)
        return (brought.source, *(origin.hops if origin else ()))[:_MAX_HOPS]

    async def _start_sync(self, rule: Rule, tag: Tag) -> bool:
        """Start the sync of a tag; return False if it joined an open job, which may have read older content."""
        caller = await self._users.by_id(rule.creator_id)
        if caller is None:
            raise Denied(CREATOR_IS_GONE)
        started = await self._start(
            SyncRequest(
                id=rule_request_id(rule.id),
                caller=caller,
                source_region=rule.source.region,
                namespace=rule.source.namespace,
                repository=rule.source.repository,
                tags=(tag,),
                target_region=rule.target_region,
                target_namespace=rule.target_namespace,
                override=rule.override,
                is_automatic=True,
                rule_id=rule.id,
            )
        )
        if any(place.is_joined and not place.status.has_ended for place in started.jobs.values()):
            return False
        if started.jobs:
            log.info("a rule started a sync", **_log_fields(rule), tag=tag)
        return True


def _target(rule: Rule) -> Target:
    return Target(rule.target_region, rule.target_namespace)


def _earliest(times: Collection[Recheck]) -> Recheck:
    tag_at = [again.tag_at for again in times if again.tag_at is not None]
    source_at = [again.source_at for again in times if again.source_at is not None]
    return Recheck(tag_at=min(tag_at, default=None), source_at=min(source_at, default=None))


def _log_fields(rule: Rule) -> dict[str, object]:
    return {
        "rule": rule.id,
        "source": str(rule.source),
        "target": rule.target_organization,
    }
