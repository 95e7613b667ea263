"""The section `[quotas]`."""

from pydantic import Field

from tagferry.settings.section import Section


class QuotaSettings(Section):
    """Default quotas; 0 means unlimited. `tagferry org quota` sets the quotas of a single organization."""

    organizations: int = Field(100, ge=0)
    """Organizations that one user can create in a region. Administrators are not limited."""
    repositories: int = Field(10_000, ge=0)
    """Repositories of an organization."""
    bytes: int = Field(0, ge=0)
    """Bytes of an organization's images in an embedded registry. A blob counts once in each repository that has it."""
    uploads: int = Field(1_000, ge=0)
    """Open upload sessions of an organization in an embedded registry."""
