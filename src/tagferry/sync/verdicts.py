"""What becomes of a tag, told for a person: from what was found, what was done, and what went wrong."""

from tagferry.copy.examine import Verdict
from tagferry.copy.rewrite import Rewrite
from tagferry.errors import NotFound, TagferryError
from tagferry.sync.model import JobStatus


def describe(verdict: Verdict, rewritten: Rewrite | None = None) -> tuple[JobStatus, str]:
    """The status that a verdict leads to, and the reason to give."""
    match verdict:
        case Verdict.COPY if rewritten is not None:
            return (
                JobStatus.SUCCESS,
                f"copied and verified, rewritten as the target region accepts it{_left(rewritten)}",
            )
        case Verdict.IN_PLACE if rewritten is not None:
            return JobStatus.SUCCESS, "the image, rewritten as the target region accepts it, is already in place"
        case Verdict.COPY:
            return JobStatus.SUCCESS, "copied and verified"
        case Verdict.IN_PLACE:
            return JobStatus.SUCCESS, "the identical image is already in place"
        case Verdict.BLOCKED:
            reason = "the target holds another image under this tag; send override=true to replace it"
            return JobStatus.EXISTED, reason
        case Verdict.MISSING:
            return JobStatus.FAILED, "the tag does not exist in the source repository"


def failure_reason(error: TagferryError) -> str:
    """Why a tag failed, for a person."""
    if isinstance(error, NotFound) and error.kind == "tag":
        return describe(Verdict.MISSING)[1]
    return error.message


def _left(rewritten: Rewrite) -> str:
    count = len(rewritten.left_behind)
    return f"; {count} manifest{'s' if count > 1 else ''} left behind" if count else ""
