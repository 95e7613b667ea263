"""The timeline of a job: everything that is recorded of it, in the order of time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tagferry.copy.timeline import Amount, Event, Step
from tagferry.sync.jobs.model import AttemptRecord, JobStatus, SyncJob


class EventKind(StrEnum):
    """The kinds of events of a job."""

    QUEUED = "queued"
    ATTEMPTS_OMITTED = "attempts_omitted"
    STARTED = "started"
    COMPARED = "compared"
    PLANNED = "planned"
    BLOB = "blob"
    BLOBS_OMITTED = "blobs_omitted"
    VERIFIED = "verified"
    TAG_WRITTEN = "tag_written"
    FAILED = "attempt_failed"
    INTERRUPTED = "interrupted"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of a job.

    Attributes:
        at: when it happened; None if that is not recorded.
        kind: what happened.
        attempt: the number of the attempt that it belongs to; None if it belongs to none.
        worker: the process that started the attempt.
        behind: the job that this one was queued behind.
        digest: that of the blob, of the image that the target had when it was compared, or of the image that was
            written.
        size: bytes of the blob, or of all blobs of the plan.
        count: blobs of the plan, or what is omitted.
        method: how the target obtained the blob: `uploaded`, `mounted` or `present`.
        source: the repository that it was mounted from.
        status: the state in which the job ended.
        reason: why the attempt failed, or why the job ended so.
        next_at: when the next attempt was due.
    """

    at: datetime | None
    kind: EventKind
    attempt: int | None = None
    worker: str = ""
    behind: int | None = None
    digest: str = ""
    size: int = 0
    count: int = 0
    method: str = ""
    source: str = ""
    status: JobStatus | None = None
    reason: str = ""
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job and what is recorded of its attempts.

    Attributes:
        job: the job.
        events: its timeline.
        uploaded: what its recorded attempts have transferred: blobs, and the bytes that were read for them.
        mounted: what the target has mounted from other repositories.
        present: what the target held already at the last attempt.
    """

    job: SyncJob
    events: tuple[JobEvent, ...]
    uploaded: Amount
    mounted: Amount
    present: Amount

    @classmethod
    def of(cls, job: SyncJob, attempts: Sequence[AttemptRecord]) -> "JobDetails":
        """Return the details of a job from the records of its attempts, oldest first."""
        return cls(
            job=job,
            events=tuple(_events(job, attempts)),
            uploaded=_sum([attempt.uploaded for attempt in attempts]),
            mounted=_sum([attempt.mounted for attempt in attempts]),
            # What one attempt has copied is present in the next one.
            present=attempts[-1].present if attempts else Amount(),
        )


def _sum(amounts: Sequence[Amount]) -> Amount:
    return Amount(sum(amount.blobs for amount in amounts), sum(amount.size for amount in amounts))


def _events(job: SyncJob, attempts: Sequence[AttemptRecord]) -> Iterator[JobEvent]:
    yield JobEvent(job.created_at, EventKind.QUEUED, behind=job.queued_behind)
    for index, attempt in enumerate(attempts):
        before = attempts[index - 1].number if index else 0
        if attempt.number > before + 1:
            yield JobEvent(None, EventKind.ATTEMPTS_OMITTED, count=attempt.number - before - 1)
        yield from _of_attempt(attempt, is_last=index == len(attempts) - 1, is_over=job.status is not JobStatus.RUNNING)
    if job.status.has_ended:
        yield JobEvent(
            job.ended_at, EventKind.ENDED, status=job.status, reason=job.reason, digest=str(job.digest or "")
        )


def _of_attempt(attempt: AttemptRecord, *, is_last: bool, is_over: bool) -> Iterator[JobEvent]:
    number = attempt.number
    yield JobEvent(attempt.started_at, EventKind.STARTED, number, worker=attempt.worker)
    blobs_end = max((index for index, one in enumerate(attempt.events) if one.step is Step.BLOB), default=-1)
    for index, event in enumerate(attempt.events):
        yield _event(event, number)
        if index == blobs_end and attempt.omitted:
            yield JobEvent(None, EventKind.BLOBS_OMITTED, number, count=attempt.omitted)
    if attempt.error is not None:
        yield JobEvent(attempt.ended_at, EventKind.FAILED, number, reason=attempt.error, next_at=attempt.next_at)
    elif attempt.ended_at is None and (not is_last or is_over):
        yield JobEvent(None, EventKind.INTERRUPTED, number)


def _event(event: Event, attempt: int) -> JobEvent:
    return JobEvent(
        datetime.fromtimestamp(event.at, UTC),
        EventKind(event.step.value),
        attempt,
        digest=event.digest,
        size=event.size,
        count=event.blobs,
        method=event.outcome.value if event.outcome is not None else "",
        source=event.source,
    )
