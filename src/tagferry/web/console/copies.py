"""The copies of a repository by its newest jobs: in sync or behind, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagferry.names import Digest, Namespace, Repository, Tag
from tagferry.sync.jobs.all_jobs import JobFilter
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.web.console.context import PageContext
from tagferry.web.console.repositories import OpenedRepository
from tagferry.web.console.states import JOB_STATES, RULE_STATES, State
from tagferry.web.console.translation import translatable

_NEWEST = 100
"""Jobs of the repository that are looked at."""
_CHANGED = translatable("another image was pushed since")


@dataclass(frozen=True, slots=True)
class TagCopy:
    """A tag at a target, by its newest job.

    Attributes:
        job: the newest job that the caller may see.
        is_outdated: whether the tag points to another image than the one that the job copied.
    """

    job: SyncJob
    is_outdated: bool = False

    @property
    def target(self) -> str:
        """The target, as `region/organization`."""
        return f"{self.job.target_region}/{self.job.target_namespace}"

    @property
    def is_in_sync(self) -> bool:
        """True if the newest job succeeded, and the tag has not changed since."""
        return self.job.status is JobStatus.SUCCESS and not self.is_outdated

    @property
    def state(self) -> State:
        """Its word, color and shape."""
        if self.job.status is not JobStatus.SUCCESS:
            return JOB_STATES[self.job.status.value]
        return RULE_STATES["behind" if self.is_outdated else "in sync"]

    @property
    def reason(self) -> str:
        """Why it is not in sync; "" if it is, or if that is not known."""
        if self.is_outdated:
            return _CHANGED
        return "" if self.is_in_sync else self.job.reason or self.job.last_error or ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A repository at a target, by the newest job of each tag.

    Attributes:
        target: the target, as `region/organization`.
        behind: the tags that are not in sync, those with the newest jobs first.
    """

    target: str
    tags: int
    behind: Sequence[TagCopy]

    @property
    def state(self) -> State:
        """Its word, color and shape."""
        return RULE_STATES["behind" if self.behind else "in sync"]

    @property
    def reason(self) -> str:
        """Why the newest of the tags that are behind is; "" if that is not known."""
        return next((one.reason for one in self.behind if one.reason), "")


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of a repository.

    Attributes:
        by_tag: what is known of each tag at its targets, by the tag.
        is_partial: whether there are older jobs, which were not looked at.
    """

    by_tag: Mapping[Tag, Sequence[TagCopy]]
    is_partial: bool = False

    @property
    def targets(self) -> list[Copy]:
        """All targets, those with the newest jobs first."""
        found: dict[str, list[TagCopy]] = {}
        every = (one for copies in self.by_tag.values() for one in copies)
        for one in sorted(every, key=lambda one: one.job.id, reverse=True):
            found.setdefault(one.target, []).append(one)
        return [Copy(target, len(all_), [one for one in all_ if not one.is_in_sync]) for target, all_ in found.items()]


async def copies_of(context: PageContext, at: OpenedRepository, digests: Mapping[Tag, Digest]) -> Copies:
    """Return the copies of a repository.

    Args:
        context: the request; only jobs that its caller may see count.
        at: the repository.
        digests: the digests that its tags point to, as far as they are known.
    """
    wanted = JobFilter(region=at.region.id, namespace=Namespace(at.namespace), repository=Repository(at.repository))
    page = await context.services.jobs.page(context.caller, wanted, limit=_NEWEST)
    newest: dict[Tag, dict[str, TagCopy]] = {}
    for job in page.jobs:
        one = TagCopy(job, _is_outdated(job, digests.get(job.tag)))
        newest.setdefault(job.tag, {}).setdefault(one.target, one)
    by_tag = {tag: sorted(copies.values(), key=lambda one: one.is_in_sync) for tag, copies in newest.items()}
    return Copies(by_tag, is_partial=page.marker is not None)


def _is_outdated(job: SyncJob, digest: Digest | None) -> bool:
    """Return whether a tag changed after a job copied it; an image that was rewritten has another digest there."""
    if job.status is not JobStatus.SUCCESS or digest is None or job.digest is None or job.rewritten is not None:
        return False
    # The same image may have digests of two algorithms.
    return job.digest != digest and job.digest.algorithm == digest.algorithm
