"""The state of a rule: in sync, behind, blocked or paused, with its newest jobs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tagferry.accounts.users import Users
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.store import Rule
from tagferry.sync.jobs.model import SyncJob
from tagferry.sync.jobs.pages import JobPages

_NEWEST = 500
"""Jobs of the source repository in which those of the rule are looked for."""


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
class RuleState:
    """The state of a rule.

    Attributes:
        behind: the number of tags whose newest sync has not succeeded.
        since: when the oldest of these syncs was requested.
        reason: why the rule is blocked, or why the newest of these syncs has not succeeded; "" if that is not known.
        jobs: the rule's newest jobs, newest first.
        creator: the name of the user on whose behalf the rule acts; "" if that user was deleted or disabled.
    """

    status: RuleStatus
    behind: int = 0
    since: datetime | None = None
    reason: str = ""
    jobs: tuple[SyncJob, ...] = ()
    creator: str = ""


class RuleStates:
    """Determines the state of rules, from the newest jobs of their repositories.

    Args:
        rules: the rules.
        jobs: the records of jobs.
        users: the users on whose behalf rules act.
    """

    def __init__(self, *, rules: RuleService, jobs: JobPages, users: Users) -> None:
        self._rules = rules
        self._jobs = jobs
        self._users = users

    async def of(self, rule: Rule) -> RuleState:
        """Return the state of a rule."""
        source = rule.source
        found, _ = await self._jobs.of_repository(
            source.region, source.namespace, source.repository, limit=_NEWEST, descending=True
        )
        jobs = tuple(job for job in found if job.rule_id == rule.id)
        newest: dict[str, SyncJob] = {}
        for job in jobs:
            newest.setdefault(job.tag, job)
        behind = [job for job in newest.values() if not job.status.is_success]
        since = min((job.created_at for job in behind), default=None)
        reason = next((text for job in behind if (text := job.last_error or job.reason)), "")
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
        return RuleState(status, len(behind), since, reason, jobs, creator.name if creator is not None else "")
