"""The section `[retention]`."""

from pydantic import Field, PositiveFloat, PositiveInt

from tagferry.settings.section import Section


class RetentionSettings(Section):
    """The execution of retention policies."""

    interval_hours: PositiveFloat = 24.0
    """Interval between two runs of a policy."""
    max_deletions_per_run: PositiveInt = 100
    """Maximum number of tags that one run of a policy deletes. The rest follows in runs an hour apart."""
    clock_jump_pause_minutes: float = Field(60.0, ge=0)
    """Time without deletions by age after the clock jumped, or after no process ran for more than an hour."""
