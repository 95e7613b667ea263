"""The state of a rule: in sync, behind, blocked or paused, with its newest jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, Integer, Subquery, bindparam, literal_column, select, union_all

from tagferry.accounts.model import Caller
from tagferry.accounts.users import Users
from tagferry.automation.rules.service import RuleService
from tagferry.automation.rules.store import Rule
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import RepositoryRef
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.rows import status_of

NEWEST = 500
"""Jobs of the source repository in which those of the rule are looked for."""
_AT_ONCE = 20
"""Repositories whose jobs one statement reads."""


@cache
def _newest_jobs(sources: int) -> CompoundSelect[Any]:
    """Select the newest jobs of that many repositories, each with the place of its repository, newest first."""
    return union_all(*(select(_newest_jobs_of(place)) for place in range(sources)))


def _newest_jobs_of(place: int) -> Subquery:
    # The columns of the table compile in two thirds of the time of those of the class.
    row = SyncJobRow.__table__.c
    columns = (row.id, row.tag, row.status, row.created_at, row.reason, row.last_error, row.bytes_total, row.rule_id)
    return (
        select(literal_column(str(place), Integer).label("place"), *columns)
        .where(
            row.source_region == bindparam(f"region_{place}"),
            row.namespace == bindparam(f"namespace_{place}"),
            row.repository == bindparam(f"repository_{place}"),
        )
        .order_by(row.id.desc())
        .limit(bindparam("newest", type_=Integer))
        .subquery()
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
        (state,) = await self.of_all([rule], newest=newest)
        return state

    async def of_all(self, rules: Sequence[Rule], *, newest: int = NEWEST) -> list[RuleState]:
        """Return the states of rules, in their order. Each creator and each source repository is looked up once."""
        ids = dict.fromkeys(rule.creator_id for rule in rules)
        creators = {user_id: await self._users.by_id(user_id) for user_id in ids}
        blocked = await self._rules.blocked(rules, creators)
        sources = list(dict.fromkeys(rule.source for rule in rules))
        rows: dict[RepositoryRef, Sequence[Any]] = {}
        for start in range(0, len(sources), _AT_ONCE):
            rows |= await self._newest_jobs(sources[start : start + _AT_ONCE], newest)
        return [
            _state(rule, rows[rule.source], creator=creators[rule.creator_id], blocked=reason, newest=newest)
            for rule, reason in zip(rules, blocked, strict=True)
        ]

    async def _newest_jobs(self, sources: Sequence[RepositoryRef], newest: int) -> dict[RepositoryRef, list[Any]]:
        """Return the newest jobs of these repositories, newest first, by one statement: each takes a round trip."""
        where: dict[str, Any] = {"newest": newest}
        for place, source in enumerate(sources):
            where[f"region_{place}"], where[f"namespace_{place}"] = source.region, source.namespace
            where[f"repository_{place}"] = source.repository
        found: dict[RepositoryRef, list[Any]] = {source: [] for source in sources}
        for row in await self._database.rows(_newest_jobs(len(sources)), where):
            found[sources[row.place]].append(row)
        for rows in found.values():
            # They are already, but SQL promises no order of the whole.
            rows.sort(key=lambda row: row.id, reverse=True)
        return found


def _state(rule: Rule, rows: Sequence[Any], *, creator: Caller | None, blocked: str, newest: int) -> RuleState:
    """Return the state of a rule, by the newest jobs of its repository."""
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
