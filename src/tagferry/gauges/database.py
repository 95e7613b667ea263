"""The gauges of the database: the leader alone exports them, so that sums over processes are right.

They are read in the background, so that a scrape neither waits for the database nor fails with it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from typing import Any

from sqlalchemy import Row, String, bindparam, func, literal_column, select, text
from sqlalchemy.exc import SQLAlchemyError

from tagferry.automation.triggers.status import DeliveryStatus
from tagferry.db.batches import error_summary
from tagferry.db.columns import Identifier, UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import DeliveryRow, SyncJobRow, SyncRuleRow
from tagferry.errors import DatabaseUnavailable
from tagferry.events import SparseEvents
from tagferry.metrics import (
    JOBS,
    LEADER,
    OLDEST_WAITING_JOB,
    RULE_JOBS,
    RULE_LAST_SUCCESS,
    RULES,
    RULES_STATE,
    WEBHOOK_DELIVERIES_PENDING,
    WORKERS,
)
from tagferry.metrics.instruments import OTHER, Labels
from tagferry.regions import Regions
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.rows import is_open
from tagferry.workers import ProcessList

REFRESH_SECONDS = 5.0
"""The shortest time between two looks at the database."""
_SHARE = 20
"""A look that takes long is repeated after this many times that time, so that it never takes more of the database."""
_LEADER_SECONDS = 2.0
"""Seconds between two questions whether this process has become the leader."""
_QUERY_SECONDS = 10.0
_RULE_SECONDS = 30.0
"""The shortest time between two looks for the successes of rules."""
_STALE_SECONDS = 30.0
"""The time after which values are no longer exported if the database does not answer."""

_GAUGES = (
    JOBS,
    OLDEST_WAITING_JOB,
    RULE_JOBS,
    RULE_LAST_SUCCESS,
    RULES_STATE,
    WEBHOOK_DELIVERIES_PENDING,
    WORKERS,
)
_STATES = ("waiting", "running", "held")

_IS_HELD = SyncJobRow.next_attempt_at.is_not(None)
_OPEN_JOBS = (
    select(
        SyncJobRow.status,
        _IS_HELD.label("is_held"),
        SyncJobRow.target_region,
        SyncJobRow.rule_id,
        func.count().label("jobs"),
        func.min(SyncJobRow.created_at).label("oldest"),
    )
    .where(is_open())
    .group_by(SyncJobRow.status, _IS_HELD, SyncJobRow.target_region, SyncJobRow.rule_id)
)
# As a literal, so that SQLite can use the index of waiting deliveries.
_PENDING = select(func.count()).where(
    DeliveryRow.status == literal_column(f"'{DeliveryStatus.WAITING.value}'", String())
)
_RULES = select(SyncRuleRow.sync_auto, func.count()).group_by(SyncRuleRow.sync_auto)
_RULE_SUCCESSES = (
    text(
        "SELECT id, (SELECT max(ended_at) FROM (SELECT ended_at, rule_id FROM sync_jobs "
        "WHERE source_region = sync_rules.source_region AND namespace = sync_rules.namespace "
        "AND repository = sync_rules.repository AND status = 'success' ORDER BY id DESC LIMIT 100) AS newest "
        "WHERE newest.rule_id = sync_rules.id) AS succeeded_at FROM sync_rules ORDER BY id LIMIT :most"
    )
    .bindparams(bindparam("most", RULES))
    .columns(id=Identifier, succeeded_at=UtcDateTime)
)

log = SparseEvents(__name__)


class DatabaseGauges:
    """Keeps the gauges of the database up to date while this process is the leader.

    Args:
        database: the database.
        regions: the configured regions; jobs of others count as one.
        is_leader: returns whether this process is the leader.
        lost: returns the event that is set once this process may have lost the lead.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        database: Database,
        *,
        regions: Regions,
        is_leader: Callable[[], Awaitable[bool]],
        lost: Callable[[], asyncio.Event],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._regions = regions
        self._is_leader = is_leader
        self._lost = lost
        self._clock = clock
        self._processes = ProcessList(database)
        self._refreshed_at = float("-inf")
        self._successes_at = float("-inf")
        self._rules: list[int] = []

    async def keep(self) -> None:
        """Refresh until cancelled; then nothing is exported any longer."""
        try:
            while True:
                seconds = await self.refresh()
                lost = self._lost()
                if not lost.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await lost.wait()
                if lost.is_set():
                    # At once, since another process may lead soon.
                    self._clear()
                    await asyncio.sleep(_LEADER_SECONDS)
        finally:
            self._clear()

    async def refresh(self) -> float:
        """Read the database if this process is the leader; returns the seconds until the next time."""
        if not await self._is_leader():
            self._clear()
            return _LEADER_SECONDS
        LEADER.set(1)
        begun = self._clock()
        try:
            async with asyncio.timeout(_QUERY_SECONDS):
                await self._read()
        except (SQLAlchemyError, DatabaseUnavailable, TimeoutError) as error:
            log.warning("could not read the database for the metrics", reason=error_summary(error))
            if self._clock() - self._refreshed_at > _STALE_SECONDS:
                self._clear(is_leader=True)
        else:
            self._refreshed_at = self._clock()
        return max(REFRESH_SECONDS, _SHARE * (self._clock() - begun))

    async def _read(self) -> None:
        jobs = await self._database.rows(_OPEN_JOBS, {})
        [(pending,)] = await self._database.rows(_PENDING, {})
        rules: dict[bool, int] = dict(map(tuple, await self._database.rows(_RULES, {})))
        workers = await self._processes.count()
        if self._clock() - self._successes_at > _RULE_SECONDS:
            successes = await self._database.rows(_RULE_SUCCESSES, {})
            self._rules = [rule_id for rule_id, _ in successes]
            RULE_LAST_SUCCESS.replace({(str(rule),): at.timestamp() for rule, at in successes if at is not None})
            self._successes_at = self._clock()
        self._show_jobs(jobs)
        self._show_jobs_of_rules(jobs)
        WEBHOOK_DELIVERIES_PENDING.set(pending)
        RULES_STATE.replace({("enabled",): rules.get(True, 0), ("paused",): rules.get(False, 0)})
        WORKERS.replace({("alive",): workers.alive, ("missing",): workers.missing})

    def _show_jobs(self, rows: Sequence[Row[Any]]) -> None:
        known = [region.id for region in self._regions]
        counts = _zeros(_STATES, known)
        oldest: dict[str, datetime] = {}
        for row in rows:
            region = row.target_region if row.target_region in known else OTHER
            counts[_state(row), region] += row.jobs
            if row.status == JobStatus.WAITING.value and row.oldest is not None:
                oldest[region] = min(row.oldest, oldest.get(region, row.oldest))
        JOBS.replace(counts)
        now = datetime.now(UTC)
        # The clock of the process that accepted the job may be ahead.
        ages = {region: max(0.0, (now - since).total_seconds()) for region, since in oldest.items()}
        OLDEST_WAITING_JOB.replace({(region,): ages.get(region, 0.0) for region in (*known, *ages)})

    def _show_jobs_of_rules(self, rows: Iterable[Row[Any]]) -> None:
        counts = _zeros(map(str, self._rules), _STATES)
        for row in rows:
            if row.rule_id is not None:
                counts[str(row.rule_id) if row.rule_id in self._rules else OTHER, _state(row)] += row.jobs
        RULE_JOBS.replace(counts)

    def _clear(self, *, is_leader: bool = False) -> None:
        LEADER.set(is_leader)
        self._successes_at = float("-inf")
        for gauge in _GAUGES:
            gauge.clear()


def _state(row: Row[Any]) -> str:
    if row.status == JobStatus.RUNNING.value:
        return "running"
    return "held" if row.is_held else "waiting"


def _zeros(first: Iterable[str], second: Iterable[str]) -> Counter[Labels]:
    return Counter(dict.fromkeys(product(first, second), 0))
