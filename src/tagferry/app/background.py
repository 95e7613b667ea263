"""Build the background work: rules, triggers, retention, housekeeping and scrubbing."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from tagferry.accounts.repositories import Repositories
from tagferry.app.accounts import Accounts
from tagferry.app.sync import SyncComponents
from tagferry.audit.log import AuditLog
from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.observed import ObservedTags
from tagferry.automation.retention.runner import RetentionRunner
from tagferry.automation.retention.store import Policies
from tagferry.automation.rules.runner import RuleRunner
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.store import Rules
from tagferry.automation.triggers.deliveries import Deliveries
from tagferry.automation.triggers.follower import TriggerFollower
from tagferry.automation.triggers.sender import WebhookSender
from tagferry.automation.triggers.service import TriggerService
from tagferry.automation.triggers.store import Triggers
from tagferry.automation.triggers.webhooks import Webhook, Webhooks
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.db.clock import Clock
from tagferry.housekeeping import Housekeeping
from tagferry.memory import keep_returning_memory
from tagferry.names import RegionId
from tagferry.registry.storage.store import DiskStore
from tagferry.scrubbing import Restorer, Scrubber
from tagferry.settings import Settings, WebhookSettings
from tagferry.sync.jobs.history import SyncHistory
from tagferry.sync.jobs.messages import JOBS_ENDED
from tagferry.sync.jobs.searches import ReferrerSearches
from tagferry.tls import ClientTls


@dataclass(frozen=True, slots=True)
class AutomationComponents:
    """The services of automation: rules, triggers and retention policies, what executes them, and what it records."""

    watch: TagWatcher
    rules: RuleService
    triggers: TriggerService
    retention: RetentionRunner
    policies: Policies
    history: DeletionHistory
    audit: AuditLog
    webhooks: Webhooks
    clock: Clock
    housekeeping: Housekeeping
    scrubbers: Sequence[Scrubber]

    def apply(self, settings: Settings, webhooks: Iterable[Webhook], *, have_regions_changed: bool) -> None:
        """Apply a reloaded configuration, whose webhooks have been checked. Cannot fail."""
        self.watch.poll_intervals = _poll_intervals(settings)
        if have_regions_changed:
            # Rules and triggers of regions that were added become active.
            self.watch.regions_changed()
        self.clock.settling = timedelta(minutes=settings.retention.clock_jump_pause_minutes)
        self.retention.interval = timedelta(hours=settings.retention.interval_hours)
        self.retention.run_limit = settings.retention.max_deletions_per_run
        self.webhooks.replace(webhooks)
        self.audit.kept = timedelta(days=settings.audit.history_days)
        self.audit.max_records = settings.audit.max_records
        self.housekeeping.kept = timedelta(days=settings.sync.history_days)
        for scrubber in self.scrubbers:
            scrubber.days = settings.limits.scrub_interval_days


@asynccontextmanager
async def open_automation(
    settings: Settings, accounts: Accounts, repositories: Repositories, sync: SyncComponents
) -> AsyncIterator[AutomationComponents]:
    """Build and start automation, housekeeping and scrubbing. Stop them when the context exits."""
    supervisor = accounts.supervisor
    database, regions, is_leader = accounts.database, sync.regions, sync.coordination.is_leader
    rules, sync_history, triggers = Rules(database), SyncHistory(database), Triggers(database)
    deliveries, history, policies = Deliveries(database, sync.bus), DeletionHistory(database), Policies(database)
    watch = TagWatcher(
        followers=[
            TriggerFollower(regions=regions, triggers=triggers, deliveries=deliveries),
            RuleRunner(
                regions=regions,
                rules=rules,
                sync_history=sync_history,
                searches=ReferrerSearches(database),
                users=accounts.users,
                start=sync.service.start,
            ),
        ],
        regions=regions,
        sync_history=sync_history,
        poll_intervals=_poll_intervals(settings),
        is_leader=is_leader,
    )
    clock = Clock(database, settling=timedelta(minutes=settings.retention.clock_jump_pause_minutes))
    retention = RetentionRunner(
        regions=regions,
        policies=policies,
        observed_tags=ObservedTags(database),
        history=history,
        forget=watch.forget,
        is_leader=is_leader,
        interval=timedelta(hours=settings.retention.interval_hours),
        is_plausible=clock.is_plausible,
        run_limit=settings.retention.max_deletions_per_run,
    )
    webhooks = Webhooks(webhooks_of(settings))
    kept, most = timedelta(days=settings.audit.history_days), settings.audit.max_records
    audit = AuditLog(database, kept=kept, max_records=most)
    sender = WebhookSender(deliveries=deliveries, webhooks=webhooks, regions=regions, bus=sync.bus, is_leader=is_leader)
    async with AsyncExitStack() as stack:
        housekeeping = Housekeeping(
            regions,
            sync.jobs,
            history,
            deliveries,
            audit,
            kept=timedelta(days=settings.sync.history_days),
            is_plausible=clock.is_plausible,
        )
        stack.push_async_callback(_cancel, supervisor.start("housekeeping", housekeeping.run))
        stack.push_async_callback(_cancel, supervisor.start("returning freed memory", keep_returning_memory))
        restorer, scrubbers = Restorer(regions, sync.locations), []
        for region in regions:
            if isinstance(region.store, DiskStore):
                scrubber = Scrubber(region, restorer, days=settings.limits.scrub_interval_days)
                scrubbers.append(scrubber)
                scrubbing = supervisor.start(f"verifying the content of {region.id}", scrubber.run)
                stack.push_async_callback(_cancel, scrubbing)
        sync.bus.subscribe(JOBS_ENDED, watch.jobs_ended)
        for each in (watch, retention, sender):
            stack.push_async_callback(each.close)
            each.start(supervisor)
        yield AutomationComponents(
            watch=watch,
            rules=RuleService(
                regions=regions,
                access=accounts.access,
                repositories=repositories,
                rules=rules,
                on_rule_changed=watch.repository_changed,
            ),
            triggers=TriggerService(
                regions=regions,
                repositories=repositories,
                triggers=triggers,
                deliveries=deliveries,
                webhooks=webhooks,
                scan=watch.try_scan,
            ),
            retention=retention,
            policies=policies,
            history=history,
            audit=audit,
            webhooks=webhooks,
            clock=clock,
            housekeeping=housekeeping,
            scrubbers=scrubbers,
        )


def _poll_intervals(settings: Settings) -> dict[RegionId, float]:
    pauses = {RegionId(name): region.poll_interval for name, region in settings.regions.items()}
    return {name: pause for name, pause in pauses.items() if pause is not None}


def webhooks_of(settings: Settings) -> list[Webhook]:
    """Return the configured webhooks; raises Invalid if a file of certificates cannot be used."""
    return list(map(_webhook, settings.webhooks))


def _webhook(given: WebhookSettings) -> Webhook:
    secret = given.secret.get_secret_value() if given.secret else None
    tls = ClientTls(ca_file=given.ca_file, ca_only=given.ca_only)
    tls.check()
    return Webhook(
        url=given.url,
        secret=secret,
        tls=tls,
        proxy=given.proxy,
        seconds=given.timeout_seconds,
        attempts=given.max_attempts,
        trigger_mode=given.trigger_mode,
        cluster_id=given.cluster_id,
        cluster_name=given.cluster_name,
        organizations=frozenset(given.organizations),
    )


async def _cancel(task: asyncio.Task[NoReturn]) -> None:
    task.cancel()
    await asyncio.wait([task])
