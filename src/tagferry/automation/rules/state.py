"""The state of a rule: in sync, behind, blocked or paused, with its newest jobs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import bindparam, select

from tagferry.accounts.users import Users
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.store import Rule
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.rows import status_of

NEWEST = 500
"""Jobs of the source repository in which those of the rule are looked for."""

_JOBS = (
    select(
        SyncJobRow.id,
        SyncJobRow.tag,
        SyncJobRow.status,
        SyncJobRow.created_at,
        SyncJobRow.reason,
        SyncJobRow.last_error,
        SyncJobRow.bytes_total,
        SyncJobRow.rule_id,
    )
    .where(
        SyncJobRow.source_region == bindparam("region"),
        SyncJobRow.namespace == bindparam("namespace"),
        SyncJobRow.repository == bindparam("repository"),
    )
    .order_by(SyncJobRow.id.desc())
    .limit(bindparam("newest"))
)


class RuleStatus(StrEnum):
    """The state of a rule."""

    PAUSED = "paused"
    """It is switched off."""
    BLOCKED = "blocked"
    """It cannot start syncs, for example because its creator lacks a permission."""
    BEHIND = "behind"
    """The newest sync of some tags has not ended, or has failed."""
    IN_SYNC = "in sync"
    """The newest sync of every tag has succeeded."""
    IDLE = "idle"
    """It has started no sync yet."""


@dataclass(frozen=True, slots=True)
class RuleJob:
    """A sync that a rule has started.

    Attributes:
        reason: why it has this status, or why its last attempt failed.
        bytes_total: bytes of all blobs of the image; 0 if that is not known.
    """

    id: int
    tag: str
    status: JobStatus
    created_at: datetime
    reason: str
    bytes_total: int


@dataclass(frozen=True, slots=True)
class RuleState:
    """The state of a rule.

    Attributes:
        behind: the number of tags whose newest sync has not succeeded.
        since: when the oldest of these syncs was requested.
        reason: why the rule is blocked, or why the newest of these syncs has not succeeded; "" if that is not known.
        jobs: the rule's newest jobs, newest first.
        creator: the name of the user on whose behalf the rule acts; "" if that user was deleted or disabled.
        is_partial: whether the repository has more jobs than were looked at, so that older syncs may have failed.
    """

    status: RuleStatus
    behind: int = 0
    since: datetime | None = None
    reason: str = ""
    jobs: tuple[RuleJob, ...] = ()
    creator: str = ""
    is_partial: bool = False


class RuleStates:
    """Determines the state of rules, from the newest jobs of their repositories.

    Args:
        rules: the rules.
        database: stores the jobs.
        users: the users on whose behalf rules act.
    """

    def __init__(self, *, rules: RuleService, database: Database, users: Users) -> None:
        self._rules = rules
        self._database = database
        self._users = users

    async def of(self, rule: Rule, *, newest: int = NEWEST) -> RuleState:
        """Return the state of a rule, by the newest jobs of its source repository."""
        source = rule.source
        where = {"region": source.region, "namespace": source.namespace, "repository": source.repository}
        rows = await self._database.rows(_JOBS, where | {"newest": newest})
        jobs = tuple(
            RuleJob(
                id=row.id,
                tag=row.tag,
                status=status_of(row.status),
                created_at=row.created_at,
                reason=row.last_error if row.status == JobStatus.WAITING.value and row.last_error else row.reason,
                bytes_total=row.bytes_total,
            )
            for row in rows
            if row.rule_id == rule.id and row.created_at is not None
        )
        latest: dict[str, RuleJob] = {}
        for job in jobs:
            latest.setdefault(job.tag, job)
        behind = [job for job in latest.values() if not job.status.is_success]
        since = min((job.created_at for job in behind), default=None)
        reason = next((job.reason for job in behind if job.reason), "")
        creator = await self._users.by_id(rule.creator_id)
        blocked = await self._rules.blocked(rule, creator)
        if not rule.sync_auto:
            status = RuleStatus.PAUSED
        elif blocked:
            status, reason = RuleStatus.BLOCKED, blocked
        elif behind:
            status = RuleStatus.BEHIND
        else:
            status = RuleStatus.IN_SYNC if jobs else RuleStatus.IDLE
        return RuleState(
            status=status,
            behind=len(behind),
            since=since,
            reason=reason,
            jobs=jobs,
            creator=creator.name if creator is not None else "",
            is_partial=len(rows) >= newest,
        )
