"""Sync requests, jobs and their states."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tagferry.accounts.model import Caller
from tagferry.copy.progress import ProgressSnapshot
from tagferry.copy.rewrite import Rewrite
from tagferry.copy.timeline import NOTHING, Amount, Event
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag


class JobStatus(StrEnum):
    """The state of a sync job, in SWR's terms."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    EXISTED = "existed"

    @property
    def has_ended(self) -> bool:
        """True for a final state."""
        return not FOLLOWING[self]

    @property
    def is_success(self) -> bool:
        """True if the target has the requested image under this tag."""
        return self is JobStatus.SUCCESS

    @property
    def can_be_retried(self) -> bool:
        """True if a repeated request for the same tag may succeed."""
        return self in (JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCEL)

    @property
    def may_follow(self) -> list["JobStatus"]:
        """The states from which a job may enter this one."""
        return [status for status, following in FOLLOWING.items() if self in following]


_ENDS = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCEL, JobStatus.EXISTED})
FOLLOWING: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.WAITING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCEL}),
    JobStatus.RUNNING: _ENDS | {JobStatus.WAITING},
    **dict.fromkeys(_ENDS, frozenset()),
}
"""The states that may follow each state. A job returns to waiting if its worker was lost or a registry is unavailable.

A waiting job fails if its region was removed. A job is first recorded as waiting, or as ended if there is nothing to
do.
"""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A request to copy tags of one repository to one target.

    Attributes:
        id: the id of the API request that started it.
        is_automatic: a rule started it. Requests of users run first, and tags that are up to date are not recorded.
        rule_id: the rule that started it, also if a user retries the rule's job; None if no rule did.
        seconds: how long its tags may take from now on, queue time included; None means no limit.
        source_organization_id: the organization the caller may read; None if it exists only in its registry.
        target_organization_id: the organization the caller may write; None as above.
    """

    id: str
    caller: Caller
    source_region: RegionId
    namespace: Namespace
    repository: Repository
    tags: tuple[Tag, ...]
    target_region: RegionId
    target_namespace: Namespace
    override: bool = False
    is_automatic: bool = False
    rule_id: int | None = None
    seconds: float | None = None
    source_organization_id: int | None = None
    target_organization_id: int | None = None


@dataclass(frozen=True, slots=True)
class SyncJob:
    """The recorded copy of one tag.

    Attributes:
        reason: why it ended as it did, for users.
        digest: the digest of the tag at the target, once known.
        bytes_total: bytes of all blobs of the image, once known.
        bytes_done: bytes of the blobs that the target holds or is receiving.
        rewritten: how the image at the target differs from the source, if it was rewritten.
        attempts: how often a worker started it.
        failures: consecutive attempts that failed because a registry was unavailable.
        failing_since: when the first of these attempts failed.
        next_attempt_at: when it is retried; None unless it waits for that time.
        last_error: why the last of these attempts failed.
        is_automatic: whether a rule started it.
        rule_id: the rule that started it or the job that it retries; None if no rule did.
        queued_behind: the earlier job with the same tag and target that it had to wait for, if any.
        blocked_by: the job that it waits for now.
        deadline_at: when it times out.
        started_at: when a worker last started it.
        ended_at: when it ended.
        trace_context: the trace of the request that it belongs to; None if it had none.
        snapshot: the current progress of its copy; not recorded.
    """

    id: int
    request_id: str
    created_at: datetime
    updated_at: datetime
    domain_id: str
    domain_name: str
    operator_id: str
    operator_name: str
    source_region: RegionId
    namespace: Namespace
    repository: Repository
    tag: Tag
    target_region: RegionId
    target_namespace: Namespace
    override: bool
    status: JobStatus
    reason: str
    digest: Digest | None
    bytes_total: int
    bytes_done: int
    rewritten: Rewrite | None
    attempts: int = 0
    failures: int = 0
    failing_since: datetime | None = None
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    is_automatic: bool = False
    rule_id: int | None = None
    queued_behind: int | None = None
    blocked_by: int | None = None
    deadline_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    trace_context: str | None = None
    snapshot: ProgressSnapshot | None = None


@dataclass(frozen=True, slots=True)
class JobSelection:
    """Jobs of one repository, selected by their ids or by the request that created them.

    Attributes:
        jobs: ids; ids of other repositories are ignored. Empty means all jobs of the request.
        request_id: the id of the request; None means any request.
    """

    region: RegionId
    namespace: Namespace
    repository: Repository
    jobs: frozenset[int] = frozenset()
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """The initial record of a tag's job: waiting to run, or already ended."""

    tag: Tag
    status: JobStatus = JobStatus.WAITING
    reason: str = ""
    digest: Digest | None = None
    rewritten: Rewrite | None = None
    search_error: str | None = None


@dataclass(frozen=True, slots=True)
class JobHandle:
    """The job of a tag right after it was requested.

    Attributes:
        is_joined: whether an earlier request created the job.
    """

    id: int
    status: JobStatus
    override: bool
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that failed because a registry was unavailable.

    Attributes:
        number: the number of consecutive failed attempts, this one included.
        failing_since: when the first of them failed.
        failed_at: when this one failed.
        error: the reason, for users.
        next_at: when to retry; None if the job is not retried.
    """

    number: int
    failing_since: datetime
    failed_at: datetime
    error: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """The steps of a job's attempt.

    Attributes:
        number: the number of the attempt, from 1.
        worker: the name of the process that ran it.
        ended_at: None while it runs.
        error: why it failed, if a registry was unavailable.
        next_at: when the next attempt was due then.
        events: its steps in the order of time; of blobs only the first ones.
        omitted: the number of blobs without an event.
        uploaded: the blobs that were transferred, and the bytes that were read for them.
    """

    job_id: int
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    next_at: datetime | None = None
    events: tuple[Event, ...] = ()
    omitted: int = 0
    uploaded: Amount = NOTHING
    mounted: Amount = NOTHING
    present: Amount = NOTHING


class EndReason(StrEnum):
    """Why a job ended as it did: a fixed set for metrics, unlike the sentence in its record.

    - `none`: it succeeded.
    - `conflict`: the target has another image under the tag.
    - `not_found`: the source lacks the tag, or something that it needs.
    - `denied`: a registry refused the credentials or the operation.
    - `invalid`: the image or a response is malformed, or exceeds a limit.
    - `corrupt`: content does not match its digest.
    - `unsupported`: a registry does not support what the image needs.
    - `unavailable`: a registry could not be reached, or answered with errors.
    - `unresponsive`: a registry did not answer.
    - `untrusted`: a registry's certificate or proxy has to be repaired.
    - `storage`: a disk of this installation is full or failing.
    - `deadline`: the time for the request passed.
    - `cancelled`: a user cancelled it, or its organization or repository was deleted.
    - `not_configured`: its region is no longer configured.
    - `worker_lost`: its workers were lost repeatedly.
    - `record`: its record, or its result, could not be read or written.
    - `internal`: an unexpected error; the log has it.
    """

    NONE = "none"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    INVALID = "invalid"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    UNRESPONSIVE = "unresponsive"
    UNTRUSTED = "untrusted"
    STORAGE = "storage"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    NOT_CONFIGURED = "not_configured"
    WORKER_LOST = "worker_lost"
    RECORD = "record"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job.

    Attributes:
        repository: the source's organization and repository.
        seconds: the time since its last start; None if it was not running here.
    """

    job_id: int
    source_region: str
    target_region: str
    repository: str
    status: JobStatus
    reason: EndReason
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """An update of a job's record; None leaves a field unchanged.

    Attributes:
        timeline: what the attempt has done so far.
        end: how to count it, if it ends the job.
    """

    job_id: int
    status: JobStatus
    reason: str | None = None
    digest: Digest | None = None
    bytes_total: int | None = None
    bytes_done: int | None = None
    rewritten: Rewrite | None = None
    search_error: str | None = None
    attempt: Attempt | None = None
    timeline: AttemptRecord | None = None
    end: JobEnd | None = None
