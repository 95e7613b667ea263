"""What is asked for, and what becomes of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tagferry.accounts.model import Caller
from tagferry.copy.progress import ProgressSnapshot
from tagferry.copy.rewrite import Rewrite
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag


class JobStatus(StrEnum):
    """The state of a sync job, in SWR's words."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    EXISTED = "existed"

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows any more."""
        return not FOLLOWING[self]

    @property
    def is_success(self) -> bool:
        """Whether the tag stands at the target as it was asked for."""
        return self is JobStatus.SUCCESS

    @property
    def can_be_retried(self) -> bool:
        """Whether the same may succeed when it is asked for again."""
        return self in (JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCEL)

    @property
    def may_follow(self) -> list["JobStatus"]:
        """The states that it may follow."""
        return [status for status, following in FOLLOWING.items() if self in following]


_ENDS = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCEL, JobStatus.EXISTED})
FOLLOWING: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.WAITING: frozenset({JobStatus.RUNNING, JobStatus.TIMEOUT, JobStatus.CANCEL}),
    JobStatus.RUNNING: _ENDS | {JobStatus.WAITING},
    **dict.fromkeys(_ENDS, frozenset()),
}
"""Which states may follow a state; a job waits again that lost its worker, or whose registry is away.

A job is first recorded as waiting, or as ended where there is nothing to do.
"""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One repository's tags, to one target.

    Attributes:
        id: the id of the call that asked for it.
        is_automatic: nobody waits for it: people's requests go first, and what is in place already is not recorded.
        seconds: how long its tags may take from now on, waiting included; None means without limit.
        source_organization_id: the organization that the caller may read; None where only its registry has it.
        target_organization_id: the one that the caller may write to; as above.
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
    seconds: float | None = None
    source_organization_id: int | None = None
    target_organization_id: int | None = None


@dataclass(frozen=True, slots=True)
class SyncJob:
    """One tag's copy, as it is recorded.

    Attributes:
        reason: why it ended as it did, for a person.
        digest: what the tag points to at the target, once that is known.
        bytes_total: bytes of all blobs of the image, once they are known.
        bytes_done: bytes of those that the target holds or is receiving.
        rewritten: how the target's image differs from the source's, where it has to.
        starts: how often a worker began with it.
        attempts: attempts that failed one after another because a registry was away.
        failing_since: when the first of them failed.
        next_attempt_at: when it is tried again, while it waits for that.
        last_error: why the last of them failed.
        is_automatic: a rule asked for it.
        deadline_at: when it is given up, if it has not ended.
        started_at: when a worker last began with it.
        ended_at: when it ended.
        snapshot: how its copy is at this moment; never on record.
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
    starts: int = 0
    attempts: int = 0
    failing_since: datetime | None = None
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    is_automatic: bool = False
    deadline_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    snapshot: ProgressSnapshot | None = None


@dataclass(frozen=True, slots=True)
class JobSelection:
    """Jobs of one repository, by their ids or by the request that made them.

    Attributes:
        jobs: ids; those that the repository does not have are passed over. Empty means all of the request.
        request_id: the id of the request; None means whichever request.
    """

    region: RegionId
    namespace: Namespace
    repository: Repository
    jobs: frozenset[int] = frozenset()
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """How a tag's job is first recorded: waiting to be run, or ended already."""

    tag: Tag
    status: JobStatus = JobStatus.WAITING
    reason: str = ""
    digest: Digest | None = None
    rewritten: Rewrite | None = None
    unsearched: str | None = None


@dataclass(frozen=True, slots=True)
class JobHandle:
    """Where a tag's job stands right after it was asked for.

    Attributes:
        is_joined: an earlier request had asked for just the same.
    """

    id: int
    status: JobStatus
    override: bool
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a copy that failed because a registry was away.

    Attributes:
        number: how many have failed in this way by now, one after another.
        failing_since: when the first of them failed.
        failed_at: when this one did.
        error: why, for a person.
        next_at: when to try again; None where the time for that is over.
    """

    number: int
    failing_since: datetime
    failed_at: datetime
    error: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What changes in a job's record; what is None stays."""

    job_id: int
    status: JobStatus
    reason: str | None = None
    digest: Digest | None = None
    bytes_total: int | None = None
    bytes_done: int | None = None
    rewritten: Rewrite | None = None
    unsearched: str | None = None
    attempt: Attempt | None = None
