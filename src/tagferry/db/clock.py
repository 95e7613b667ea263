"""Decide whether the clock is plausible enough to delete data by age (decision 25).

A clock that is years ahead makes everything look old. Machines may boot with such a clock and correct it a moment
later. So nothing is deleted by age while the database's clock differs from this machine's, or within an hour after the
clock jumped. A jump is detected against the time since boot while the process runs, and against the last time recorded
in the database after a restart.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text

from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import ClockRow, RetentionPolicyRow, SyncJobRow, UserRow
from tagferry.events import SparseEvents

TOLERANCE = timedelta(minutes=1)
"""The largest accepted difference between two clocks."""
LONGEST_GAP = timedelta(hours=1)
"""The longest accepted time without a running process."""
_WRITTEN_EVERY = timedelta(minutes=1)
_ROW = 1

log = SparseEvents(__name__)


def since_boot() -> float:
    """Return the seconds since boot, including suspended time; this clock cannot be set."""
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boot)


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


class Clock:
    """Decides whether the clock has been plausible for long enough. A reload changes `settling`.

    Args:
        database: stores the last recorded time; PostgreSQL also has a clock of its own.
        settling: how long the clock is distrusted after a jump.
        now: this machine's clock.
        elapsed: seconds of a clock that cannot be set.
    """

    def __init__(
        self,
        database: Database,
        *,
        settling: timedelta,
        now: Callable[[], datetime] = utc_now,
        elapsed: Callable[[], float] = since_boot,
    ) -> None:
        self._database = database
        self.settling = settling
        self._now = now
        self._elapsed = elapsed
        self._seen: tuple[datetime, float] | None = None
        self._written: datetime | None = None
        self._trusted_at = 0.0
        self._doubt = ""

    async def is_plausible(self) -> bool:
        """Return whether deleting by age is allowed now; otherwise the log has the reason and the remaining time."""
        now, elapsed = self._now(), self._elapsed()
        if self._seen is None:
            await self._compare_with_record(now, elapsed)
        else:
            before, then = self._seen
            jump = (now - before).total_seconds() - (elapsed - then)
            if abs(jump) > TOLERANCE.total_seconds():
                self._distrust(elapsed, f"the clock jumped by {timedelta(seconds=round(jump))}")
        self._seen = (now, elapsed)
        await self._compare_with_database(elapsed)
        if elapsed < self._trusted_at:
            seconds = round(self._trusted_at - elapsed)
            log.warning("paused deletion by age because the clock is implausible", reason=self._doubt, seconds=seconds)
            return False
        if self._written is None or abs(now - self._written) >= _WRITTEN_EVERY:
            await self._write(now)
        return True

    def _distrust(self, elapsed: float, reason: str) -> None:
        self._trusted_at, self._doubt = elapsed + self.settling.total_seconds(), reason

    async def _compare_with_record(self, now: datetime, elapsed: float) -> None:
        last = await self._last_recorded()
        if last is None:
            return
        if now < last - TOLERANCE:
            self._distrust(
                elapsed, f"the clock shows {now:%Y-%m-%d %H:%M}, before the last recorded time {last:%Y-%m-%d %H:%M}"
            )
        elif now - last > LONGEST_GAP:
            self._distrust(elapsed, f"the clock shows a time {now - last} after the last recorded time")

    async def _compare_with_database(self, elapsed: float) -> None:
        if not self._database.is_shared:
            return
        async with self._database.read() as session:
            theirs: datetime | None = await session.scalar(select(text("clock_timestamp()")))
        if theirs is not None and abs(theirs - self._now()) > TOLERANCE:
            self._distrust(elapsed, f"the database's clock shows {theirs.astimezone(UTC):%Y-%m-%d %H:%M}")

    async def _last_recorded(self) -> datetime | None:
        """Return the last recorded time; if there is none, the time of the latest event."""
        async with self._database.read() as session:
            row = await session.get(ClockRow, _ROW)
            if row is not None:
                return row.seen_at
            last_job = select(SyncJobRow.updated_at).order_by(SyncJobRow.id.desc()).limit(1)
            last_run = select(func.max(RetentionPolicyRow.ran_at, type_=UtcDateTime()))
            last_user = select(func.max(UserRow.created_at, type_=UtcDateTime()))
            found = [await session.scalar(wanted) for wanted in (last_job, last_run, last_user)]
        return max((moment for moment in found if moment is not None), default=None)

    async def _write(self, now: datetime) -> None:
        async with self._database.write() as session:
            await session.merge(ClockRow(id=_ROW, seen_at=now))
        self._written = now
