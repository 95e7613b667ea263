"""When, and for how long, a job is retried whose registry was unavailable (docs/decisions/0020)."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tagferry.errors import Expired, TagferryError, Unavailable, Untrusted
from tagferry.sync.jobs.model import Attempt, SyncJob
from tagferry.sync.jobs.reasons import failure_reason

ERROR_LIMIT = 1000
"""Characters of an error that are kept."""
_LAST_ATTEMPT = timedelta(seconds=5)
"""The time between a job's last attempt and its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetry:
    """How jobs are tried again after faults that may pass by waiting.

    Attributes:
        interactive: how long a job that a person asked for is tried, from its first failure on; nothing means once.
        automatic: the same for jobs of rules.
        shortest: the pause after the first failure; each further one doubles it.
        longest: no pause is longer, unless the registry asks for it.
        chance: a number from 0 to 1.
        clock: the time.
    """

    interactive: timedelta = timedelta(minutes=15)
    automatic: timedelta = timedelta(hours=24)
    shortest: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=5)
    chance: Callable[[], float] = random.random
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def failed(self, job: SyncJob, error: TagferryError, *, bytes_done: int = 0) -> Attempt | None:
        """Return what is recorded of an attempt that failed for now; None for an error that waiting does not help.

        Args:
            job: as it was when the attempt began.
            error: why the attempt failed.
            bytes_done: bytes of the image that the attempt had copied by then.
        """
        if not isinstance(error, Unavailable) or isinstance(error, Expired):
            return None
        # A user who waits for an answer learns at once that an operator has to act. A rule starts its tag only once, so
        # its job waits until that has happened.
        if not error.is_retryable and not (job.is_automatic and isinstance(error, Untrusted)):
            return None
        now = self.clock()
        number, since = job.attempts + 1, job.failing_since or now
        if job.started_at is not None and now - job.started_at > self.longest and bytes_done > job.bytes_done:
            # It copied for so long that the trouble of its earlier attempts was over. Time alone does not show that: a
            # registry that accepts requests and answers none takes as long to fail them.
            number, since = 1, now
        last_error = failure_reason(error)
        if len(last_error) > ERROR_LIMIT:
            last_error = f"{last_error[: ERROR_LIMIT - 1]}…"
        due = self._due(job, number, since, now, timedelta(seconds=error.retry_after or 0))
        return Attempt(number=number, failing_since=since, failed_at=now, error=last_error, next_at=due)

    def is_over(self, job: SyncJob, error: TagferryError) -> bool:
        """Return whether a job that fails now with this error is not retried."""
        attempt = self.failed(job, error)
        return attempt is None or attempt.next_at is None

    def _due(self, job: SyncJob, number: int, since: datetime, now: datetime, asked: timedelta) -> datetime | None:
        """When to try again, or None where that would be too late."""
        end = since + (self.automatic if job.is_automatic else self.interactive)
        if job.deadline_at is not None:
            end = min(end, job.deadline_at - _LAST_ATTEMPT)
        pause = min(self.longest, self.shortest * 2.0 ** min(number - 1, 32)) * (0.5 + self.chance() / 2)
        # The last attempt comes when the time is over, however long the pause before it would have been.
        latest = max(end, now + max(asked, self.shortest))
        due = min(now + max(pause, asked * (1 + self.chance() / 20)), latest)
        return due if due <= end else None
