"""Knowledge about registries, which only saves requests and transfers."""

from datetime import datetime

from sqlalchemy import Double, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import ByteCount, FreeText, Identifier, UtcDateTime
from tagferry.db.tables.base import Base


class BlobLocationRow(Base):
    """A repository that was seen to hold a blob. The registry is identified by its address, not by a region's name."""

    __tablename__ = "blob_locations"
    __table_args__ = (UniqueConstraint("address", "digest", "repository", name="uq_blob_locations_place"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=True)
    address: Mapped[str] = mapped_column(String(512))
    digest: Mapped[str] = mapped_column(String(140))
    repository: Mapped[str] = mapped_column(String(255))
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class RegistryCapabilitiesRow(Base):
    """The detected capabilities of the registry at an address, as a JSON object."""

    __tablename__ = "registry_capabilities"

    address: Mapped[str] = mapped_column(String(512), primary_key=True)
    learned_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document: Mapped[str] = mapped_column(Text)


class RegionHealthRow(Base):
    """The last check of a region: of its registry over HTTP, or of its disk by the process that serves it.

    `since` is when the region got this state. Latencies are in seconds.
    """

    __tablename__ = "region_health"

    region: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FreeText)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    checked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    latency: Mapped[float | None] = mapped_column(Double)
    smoothed_latency: Mapped[float | None] = mapped_column(Double)
    certificate_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    throttled_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disk_free: Mapped[int | None] = mapped_column(ByteCount)
    disk_total: Mapped[int | None] = mapped_column(ByteCount)


class UploadSessionRow(Base):
    """An upload session at the registry at an address, which has received a part of a blob for a repository.

    Attributes:
        location: the session's URL; it may contain a secret of the registry and is never logged.
    """

    __tablename__ = "upload_sessions"

    address: Mapped[str] = mapped_column(String(512), primary_key=True)
    repository: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(140), primary_key=True)
    location: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
