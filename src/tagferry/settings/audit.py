"""The section `[audit]`."""

from pydantic import NonNegativeInt, PositiveFloat

from tagferry.settings.section import Section


class AuditSettings(Section):
    """The audit records in the database. The audit log does not depend on them."""

    history_days: PositiveFloat = 90.0
    """Time for which audit records are kept."""
    max_records: NonNegativeInt = 1_000_000
    """Maximum number of audit records; the oldest ones above it are deleted every hour. A tenth of them may be
    of anonymous requests. With 0, no audit records are written to the database."""
