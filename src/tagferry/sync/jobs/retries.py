"""When and for how long a job is retried after its registry was unavailable (docs/decisions/0020)."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tagferry.errors import Expired, TagferryError, Unavailable, Untrusted
from tagferry.sync.jobs.model import Attempt, SyncJob
from tagferry.sync.jobs.reasons import failure_reason

ERROR_LIMIT = 1000
"""Characters of an error that are recorded."""
_LAST_ATTEMPT = timedelta(seconds=5)
"""The time between a job's last attempt and its deadline."""


@dataclass(slots=True, kw_only=True)
class JobRetry:
    """How jobs are retried after transient faults. A reload changes its times.

    Attributes:
        interactive: how long a user's job is retried after its first failure; zero means never.
        automatic: the same for jobs of rules.
        shortest: the pause after the first failure; each further one doubles it.
        longest: the longest pause, unless the registry asks for a longer one.
        chance: returns a random number from 0 to 1.
        clock: returns the current time.
    """

    interactive: timedelta = timedelta(minutes=15)
    automatic: timedelta = timedelta(hours=24)
    shortest: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=5)
    chance: Callable[[], float] = random.random
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def failed(self, job: SyncJob, error: TagferryError, *, bytes_done: int = 0) -> Attempt | None:
        """Return the record of a failed attempt; None if the error is not transient.

        Args:
            job: the job as it was when the attempt started.
            error: why the attempt failed.
            bytes_done: bytes of the image that the attempt had copied by then.
        """
        if not isinstance(error, Unavailable) or isinstance(error, Expired):
            return None
        # A waiting user learns at once that an operator has to act. A rule starts its tag only once, so its job waits
        # until the operator has acted.
        if not error.is_retryable and not (job.is_automatic and isinstance(error, Untrusted)):
            return None
        now = self.clock()
        number, since = job.failures + 1, job.failing_since or now
        if job.started_at is not None and now - job.started_at > self.longest and bytes_done > job.bytes_done:
            # It made progress for so long that this is a new failure. Time alone does not prove that: a registry that
            # accepts requests and never responds takes as long to fail them.
            number, since = 1, now
        last_error = failure_reason(error)
        if len(last_error) > ERROR_LIMIT:
            last_error = f"{last_error[: ERROR_LIMIT - 1]}…"
        due = self._due(job, number, since, now, timedelta(seconds=error.retry_after or 0))
        return Attempt(number=number, failing_since=since, failed_at=now, error=last_error, next_at=due)

    def is_over(self, job: SyncJob, error: TagferryError) -> bool:
        """Return whether a job that now fails with this error is not retried."""
        attempt = self.failed(job, error)
        return attempt is None or attempt.next_at is None

    def _due(self, job: SyncJob, number: int, since: datetime, now: datetime, asked: timedelta) -> datetime | None:
        """Return when to retry, or None if that would be too late."""
        end = since + (self.automatic if job.is_automatic else self.interactive)
        if job.deadline_at is not None:
            end = min(end, job.deadline_at - _LAST_ATTEMPT)
        pause = min(self.longest, self.shortest * 2.0 ** min(number - 1, 32)) * (0.5 + self.chance() / 2)
        # The last attempt runs at the end of the time, even if the regular pause would be longer.
        latest = max(end, now + max(asked, self.shortest))
        due = min(now + max(pause, asked * (1 + self.chance() / 20)), latest)
        return due if due <= end else None
