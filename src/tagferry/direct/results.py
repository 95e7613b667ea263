"""The results of copies, as they are printed, and the exit code that they lead to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tagferry.errors import Conflict, Misused, Refused, StorageUnavailable, TagferryError, Unavailable
from tagferry.names import Digest

Status = Literal["copied", "up_to_date", "existed", "failed", "to_copy"]

OK = 0
USAGE = 2
FAILED = 3
"""A tag was not copied, for a reason without a code of its own, or several were not for different reasons."""
EXISTED = 4
"""The target has another image under the tag, and `--no-override` protects it; or a name is ambiguous."""
UNREACHABLE = 6
"""A registry could not be reached, or did not answer."""
DENIED = 7
"""A registry denied access."""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """The result of one tag's copy.

    Attributes:
        source: the image, as `HOST/REPOSITORY:TAG`.
        target: the image at the target.
        status: `copied`, `up_to_date`, `existed`, `failed`, or in a dry run `to_copy`.
        digest: what the target's tag points to; None if it is unknown.
        size: bytes that were transferred; in a dry run, that would be.
        seconds: the time that it took.
        reason: why it was not copied, or what its copy may lack; empty if all is well.
        error: the error of a tag that was not copied.
        left_behind: referrers that could not be read, manifests of other platforms.
    """

    source: str
    target: str
    status: Status
    digest: Digest | None = None
    size: int = 0
    seconds: float = 0.0
    reason: str = ""
    error: TagferryError | None = None
    left_behind: tuple[str, ...] = field(default=())

    @property
    def is_ok(self) -> bool:
        """True if the target has, or in a dry run would get, the image."""
        return self.status in ("copied", "up_to_date", "to_copy")

    @property
    def exit_code(self) -> int:
        """The exit code of a command that has this result alone."""
        if self.is_ok:
            return OK
        if self.status == "existed" or isinstance(self.error, Conflict):
            return EXISTED
        if isinstance(self.error, Refused):
            return DENIED
        if isinstance(self.error, Misused):
            return USAGE
        is_registry = isinstance(self.error, Unavailable) and not isinstance(self.error, StorageUnavailable)
        return UNREACHABLE if is_registry else FAILED

    def to_json(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {
            "source": self.source,
            "target": self.target,
            "status": self.status,
            "digest": self.digest,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
            "leftBehind": list(self.left_behind),
        }


def exit_code(results: Iterable[CopyResult]) -> int:
    """Return the exit code of a command: that of the failed copies if it is the same for all of them."""
    codes = {result.exit_code for result in results} - {OK}
    if not codes:
        return OK
    return codes.pop() if len(codes) == 1 else FAILED
