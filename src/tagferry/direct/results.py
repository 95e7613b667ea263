"""The results of copies, as they are printed."""

from typing import Any, Literal, NamedTuple

from tagferry.errors import TagferryError
from tagferry.names import Digest

Status = Literal["copied", "up_to_date", "existed", "failed", "to_copy"]


class CopyResult(NamedTuple):
    """The result of one tag's copy.

    Attributes:
        source: the image, as `HOST/REPOSITORY:TAG`.
        target: the image at the target.
        status: `copied`, `up_to_date`, `existed`, `failed`, or in a dry run `to_copy`.
        digest: what the target's tag points to; None if it is unknown.
        size: bytes that were transferred; those of a blob that several tags need count for one of them. In a dry run,
            bytes that would be transferred if this tag were copied alone.
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
    left_behind: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """True if the target has, or in a dry run would get, the image."""
        return self.status in ("copied", "up_to_date", "to_copy")

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
