"""The section `[sync]`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from tagferry.settings import rules
from tagferry.settings.section import Section

_YEAR_MINUTES = 366 * 24 * 60.0


class SyncSettings(Section):
    """Synchronization: limits, timeouts and verification."""

    max_tags_per_request: PositiveInt = 500
    """Maximum number of tags in one request."""
    wait_seconds: float = Field(55.0, ge=0)
    """Time for which `sync_images` waits for its tags. The SDKs time out after 60 to 120 seconds."""
    max_wait_seconds: float = Field(600.0, ge=0)
    """Maximum wait that a caller can request with `Prefer: wait=N`."""
    tag_timeout_seconds: float | None = Field(None, gt=0)
    """Timeout of the copy of one tag, without queue time. By default, there is no limit."""
    request_timeout_seconds: float | None = Field(None, gt=0)
    """Timeout of the tags of a request, including queue time. A request can set a shorter one."""
    retry_minutes: float = Field(15.0, ge=0, le=_YEAR_MINUTES)
    """Time for which to retry a tag while a registry is unavailable, from its first failure; 0 means one attempt."""
    rule_retry_minutes: float = Field(24 * 60.0, ge=0, le=_YEAR_MINUTES)
    """The same for tags that a rule synchronizes."""
    max_concurrent_tags: PositiveInt = 32
    """Maximum number of tags that one process copies at once. Copies without progress use at most half of these
    slots."""
    max_concurrent_blobs: PositiveInt = 32
    """Maximum number of blobs that one process copies at once from one region to another."""
    max_concurrent_tags_total: PositiveInt | None = None
    """Maximum number of tags that all processes together copy at once. By default, only `max_concurrent_tags`
    applies."""
    drain_timeout_seconds: float = Field(20.0, ge=0)
    """Time for which a stopping process lets running copies finish. The others continue in another process."""
    history_days: float = Field(30.0, gt=0)
    """Time for which records of ended jobs and of tags deleted by retention policies are kept."""
    referrers: Annotated[Literal[True, False, "required"], BeforeValidator(rules.flag)] = True
    """Copy signatures, attestations and SBOMs with their images. With `required`, an image fails if the source cannot
    be searched for them or one of them cannot be copied."""
    max_blob_locations: PositiveInt = 1_000_000
    """Maximum number of blob locations in the database. A blob is mounted from a known location instead of uploaded."""
    verify: Literal["copied", "all", "off"] = "copied"
    """Verification before a tag is written. `copied`: query the target for all content that was not just sent. `all`:
    also for tags that are up to date. `off`: trust the target's responses to uploads."""
    splice: bool = True
    """On Linux, copy blobs from 256 KiB on between registries without TLS inside the kernel, if the target is known to
    verify uploads. Otherwise tagferry verifies every byte, too."""
    max_concurrent_requests_per_user: PositiveInt = 64
    """Maximum number of concurrent requests of one user; further ones get 429."""
