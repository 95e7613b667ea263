"""How much an organization may have."""

from dataclasses import dataclass

from tagferry.errors import QuotaExceeded

UNLIMITED = -1
"""How a quota without an end is written, where a number has to be."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class Limits:
    """An organization's quotas; None means without limit.

    Attributes:
        bytes: of all its repositories' blobs and manifests, each blob once a repository, and of what uploads have sent.
        repositories: that hold something, or are on record.
        uploads: sessions that were begun and not ended.
    """

    bytes: int | None = None
    repositories: int | None = None
    uploads: int | None = None


def full(namespace: str, held: int, limit: int) -> QuotaExceeded:
    """The error of an organization that has no room left for what is sent."""
    return QuotaExceeded(
        f'quota exceeded: organization "{namespace}" holds {readable(held)} of its {readable(limit)}, and what is sent '
        "does not fit; delete images, or ask an administrator for more"
    )


def too_many(namespace: str, kind: str, held: int, limit: int) -> QuotaExceeded:
    """The error of an organization that has as many of something as it may."""
    return QuotaExceeded(
        f'quota exceeded: organization "{namespace}" has {held} of its {limit} {kind}; delete or end some, or ask an '
        "administrator for more"
    )


def readable(size: int) -> str:
    """Bytes in the unit that people read them in."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"
