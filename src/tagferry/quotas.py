"""Quotas of organizations."""

from dataclasses import dataclass

from tagferry.errors import QuotaExceeded

UNLIMITED = -1
"""The number that SWR's API uses for an unlimited quota."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas of an organization; None means unlimited.

    Attributes:
        bytes: bytes of blobs and manifests, with each blob once per repository, and of unfinished uploads.
        repositories: repositories that hold content, or are recorded.
        uploads: upload sessions that are open.
    """

    bytes: int | None = None
    repositories: int | None = None
    uploads: int | None = None


def bytes_exceeded(namespace: str, held: int, limit: int) -> QuotaExceeded:
    """Return the error for bytes that exceed an organization's quota."""
    return QuotaExceeded(
        f'quota exceeded: organization "{namespace}" uses {human_size(held)} of {human_size(limit)}, which leaves '
        "too little for this request; delete images, or ask an administrator for a higher quota"
    )


def count_exceeded(namespace: str, kind: str, held: int, limit: int) -> QuotaExceeded:
    """Return the error for one item too many in an organization."""
    return QuotaExceeded(
        f'quota exceeded: organization "{namespace}" has {held} of {limit} {kind}; delete or end some, or ask an '
        "administrator for a higher quota"
    )


def human_size(size: int) -> str:
    """Return a number of bytes in a human_size unit."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"
