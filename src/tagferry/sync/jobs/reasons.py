"""The status and the reason of a job, derived from its preflight result, its copy or its error."""

from datetime import datetime, timedelta

from tagferry.copy.preflight import Verdict
from tagferry.copy.referrers import NO_GAPS, Gaps
from tagferry.copy.rewrite import Rewrite
from tagferry.errors import NotFound, TagferryError
from tagferry.sync.jobs.model import Attempt, JobStatus

_NAMES_SHOWN = 3
"""Names shown of the referrers that were not copied."""


def describe(verdict: Verdict, rewritten: Rewrite | None = None, gaps: Gaps = NO_GAPS) -> tuple[JobStatus, str]:
    """Return the status and the reason of a job that ends with this verdict."""
    suffix = "".join(f"; {sentence}" for sentence in describe_gaps(gaps))
    match verdict:
        case Verdict.COPY if rewritten is not None:
            reason = f"copied and verified, rewritten as the target region accepts it{_left(rewritten)}"
            return JobStatus.SUCCESS, f"{reason}{suffix}"
        case Verdict.UP_TO_DATE if rewritten is not None:
            return JobStatus.SUCCESS, f"up to date, rewritten as the target region accepts it{suffix}"
        case Verdict.COPY:
            return JobStatus.SUCCESS, f"copied and verified{suffix}"
        case Verdict.UP_TO_DATE:
            return JobStatus.SUCCESS, f"up to date{suffix}"
        case Verdict.BLOCKED:
            reason = "the target holds another image under this tag; send override=true to replace it"
            return JobStatus.EXISTED, reason
        case Verdict.MISSING:
            return JobStatus.FAILED, "the tag does not exist in the source repository"


def describe_gaps(gaps: Gaps) -> list[str]:
    """Describe which referrers of an image may be missing, and why; empty if none is missing."""
    sentences: list[str] = []
    if gaps.search_error is not None:
        sentences.append(f"signatures and other referrers could not be searched for: {gaps.search_error}")
    if gaps.left_behind:
        names = list(gaps.left_behind)
        count = "1 referrer" if len(names) == 1 else f"{len(names)} referrers"
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        reason = gaps.left_behind[names[0]]
        sentences.append(
            f"{count} could not be copied and stayed behind: {', '.join(names[:_NAMES_SHOWN])}{more} ({reason})"
        )
    return sentences


def failure_reason(error: TagferryError, attempt: Attempt | None = None) -> str:
    """Return why a tag failed, for users, and the number of attempts if there were several."""
    if isinstance(error, NotFound) and error.kind == "tag":
        return describe(Verdict.MISSING)[1]
    if isinstance(error, NotFound) and error.kind == "region":
        return unconfigured_reason(error.name)
    if attempt is None or attempt.number == 1:
        return error.message
    return f"{error.message}; tried {attempt.number} times in {_span(attempt.failed_at - attempt.failing_since)}"


def waiting_reason(region: str, since: datetime) -> str:
    """Return why a job of a paused region waits, without the error, which may name images of another organization."""
    return f"waiting: region {region} has not answered since {since:%Y-%m-%dT%H:%M:%SZ}"


def unconfigured_reason(region: str) -> str:
    """Return why a job of a region that was removed waits or failed."""
    return f"region {region} is no longer configured"


def _span(time: timedelta) -> str:
    seconds = round(time.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 2 * 3600 else f"{seconds // 3600} h"


def _left(rewritten: Rewrite) -> str:
    count = len(rewritten.left_behind)
    return f"; {count} manifest{'s' if count > 1 else ''} left behind" if count else ""
