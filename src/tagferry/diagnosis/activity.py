"""Check the work that the database records: processes, the queue, and deliveries to webhooks."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tagferry import __version__
from tagferry.automation.triggers.status import DeliveryStatus
from tagferry.db.tables import DeliveryRow, ProcessRow, SyncJobRow, TriggerRow
from tagferry.diagnosis.model import Component, Finding, Findings
from tagferry.sync.jobs.model import JobStatus
from tagferry.workers import LOST_AFTER

STUCK_JOB = timedelta(minutes=10)
"""Time in the queue from which a job counts as stuck."""
STUCK_DELIVERY = timedelta(minutes=5)
"""Age from which a delivery that was tried counts as stuck."""
_RECENT = timedelta(days=1)


def served_regions(session: Session) -> set[str]:
    """Return the regions that recorded processes serve, also those that cannot record themselves at present."""
    return {region for regions in session.scalars(select(ProcessRow.regions)) for region in regions}


def check_activity(session: Session, *, now: datetime) -> list[Finding]:
    """Check the processes, the jobs and the deliveries; `now` is the time of the database."""
    processes = session.scalars(select(ProcessRow).order_by(ProcessRow.started_at)).all()
    oldest = session.scalar(
        select(SyncJobRow)
        .where(
            SyncJobRow.status == JobStatus.WAITING,
            SyncJobRow.next_attempt_at.is_(None),
            SyncJobRow.blocked_by.is_(None),
        )
        .order_by(SyncJobRow.created_at)
        .limit(1)
    )
    alive = [process for process in processes if now - process.seen_at <= LOST_AFTER]
    return [
        *_check_processes(processes, alive, now),
        *_check_jobs(session, oldest, alive, now),
        *_check_deliveries(session, now),
    ]


def _check_processes(processes: Sequence[ProcessRow], alive: Sequence[ProcessRow], now: datetime) -> list[Finding]:
    findings = Findings(Component.PROCESSES)
    for lost in (process for process in processes if process not in alive):
        role = "the leader" if lost.is_leader else "a process"
        findings.warning(
            f"{role} was last seen {_age(now - lost.seen_at)} ago and did not stop in order; its jobs are requeued",
            "start it again; its record disappears a day after it was last seen",
            subject=lost.name,
        )
    workers = [process for process in alive if process.slots]
    if processes and not alive:
        findings.problem("no process runs on this database any more", "start tagferry serve")
    if alive and not workers:
        findings.problem(
            "no process copies: all that run have no slots for jobs",
            "start tagferry worker, or serve without --max-concurrent-tags 0",
        )
    if workers and not any(process.is_leader for process in workers):
        findings.problem(
            "no process is the leader, so nothing is polled, called or deleted on time",
            "wait a minute and run doctor again; if none becomes the leader, restart the processes one by one",
        )
    versions = sorted({process.version for process in alive})
    if len(versions) > 1:
        findings.warning(
            f"processes of several versions run: {', '.join(versions)}", "upgrade all processes to the same version"
        )
    elif versions and versions != [__version__]:
        findings.warning(
            f"the processes run version {versions[0]}, and this command is of version {__version__}",
            "restart the processes, or use the command of their version",
        )
    if not processes:
        findings.ok("none is recorded: tagferry does not run on this database")
    elif findings.is_clean:
        names = ", ".join(f"{process.name}{' (leader)' if process.is_leader else ''}" for process in alive)
        running = sum(process.running for process in alive)
        slots = sum(process.slots for process in alive)
        findings.ok(f"{names}; version {versions[0]}; {running} of {slots} slots in use")
    return findings.all


def _check_jobs(
    session: Session, oldest: SyncJobRow | None, alive: Sequence[ProcessRow], now: datetime
) -> list[Finding]:
    findings = Findings(Component.JOBS)
    if oldest is not None and now - oldest.created_at > STUCK_JOB:
        workers = [process for process in alive if process.slots]
        add = findings.warning if workers else findings.problem
        slots = sum(process.slots for process in workers)
        in_use = sum(process.running for process in workers)
        add(
            f"job {oldest.id} to {oldest.target_region} has waited for {_age(now - oldest.created_at)}, and "
            + (f"{in_use} of {slots} slots are in use" if workers else "no process runs that could copy"),
            "raise sync.max_concurrent_tags or start another worker, and check max_concurrent_tags and "
            f"max_tags_per_minute of [regions.{oldest.target_region}]"
            if workers
            else "start tagferry serve or tagferry worker",
        )
    held = select(
        SyncJobRow.target_region,
        func.count().label("jobs"),
        func.min(SyncJobRow.failing_since).label("since"),
        func.max(SyncJobRow.last_error).label("error"),
    ).where(SyncJobRow.status == JobStatus.WAITING, SyncJobRow.next_attempt_at.is_not(None))
    for region in session.execute(held.group_by(SyncJobRow.target_region).order_by(SyncJobRow.target_region)):
        since = f" since {region.since:%Y-%m-%d %H:%M} UTC" if isinstance(region.since, datetime) else ""
        findings.warning(
            f"{region.jobs} wait for another attempt{since}: {region.error or 'a registry was unavailable'}",
            "see the findings about the registries; the jobs continue by themselves",
            subject=region.target_region,
        )
    if findings.is_clean:
        waiting = f"the oldest has waited for {_age(now - oldest.created_at)}" if oldest is not None else "none waits"
        findings.ok(waiting)
    return findings.all


def _check_deliveries(session: Session, now: datetime) -> list[Finding]:
    findings = Findings(Component.WEBHOOKS)
    waiting = (
        select(TriggerRow.name, func.count().label("calls"), func.min(DeliveryRow.id).label("oldest"))
        .select_from(DeliveryRow)
        .join(TriggerRow, TriggerRow.id == DeliveryRow.trigger_id)
        .where(DeliveryRow.status == DeliveryStatus.WAITING, DeliveryRow.occurred_at < now - STUCK_DELIVERY)
    )
    for trigger in session.execute(waiting.group_by(TriggerRow.name).order_by(TriggerRow.name)):
        oldest = session.execute(
            select(DeliveryRow.occurred_at, DeliveryRow.detail).where(DeliveryRow.id == trigger.oldest)
        ).one()
        late = f"the oldest for {_age(now - oldest.occurred_at)}"
        findings.problem(
            f"{trigger.calls} calls wait, {late}: {oldest.detail or 'no attempt has ended yet'}",
            "check that the receiver of the webhook runs, and its url, ca_file and proxy in [[webhooks]]",
            subject=trigger.name,
        )
    failed = (
        select(TriggerRow.name, func.count().label("calls"), func.max(DeliveryRow.detail).label("detail"))
        .select_from(DeliveryRow)
        .join(TriggerRow, TriggerRow.id == DeliveryRow.trigger_id)
        .where(DeliveryRow.status == DeliveryStatus.FAILED, DeliveryRow.ended_at > now - _RECENT)
    )
    for webhook in session.execute(failed.group_by(TriggerRow.name).order_by(TriggerRow.name)):
        findings.warning(
            f"{webhook.calls} calls were given up within a day: {webhook.detail}",
            "check the receiver; what it missed is in the history of the trigger",
            subject=webhook.name,
        )
    if findings.is_clean:
        findings.ok("no call is late")
    return findings.all


def _age(age: timedelta) -> str:
    seconds = max(age.total_seconds(), 0)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
