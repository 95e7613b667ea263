"""The section `[health]`."""

from pydantic import Field, PositiveFloat

from tagferry.settings.section import Section


class HealthSettings(Section):
    """The checks of the regions' registries."""

    check_interval_seconds: float = Field(60.0, ge=0)
    """Interval between two checks of a region. With 0, regions are checked on request only."""
    check_timeout_seconds: PositiveFloat = 10.0
    """Time that one check may take."""
