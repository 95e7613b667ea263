"""The size of the installation, and the names in it that pages show."""

from dataclasses import dataclass, fields

MANY = "many"
"""The repository with many tags, rules, triggers, members and jobs."""
RULES_OF_MANY = 20
TRIGGERS_OF_MANY = 20


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of things of each kind.

    Attributes:
        jobs: recorded jobs, over the last ten days; half of them of one repository.
        repositories: those of the source region, each with a record, a count of downloads, and an image; a hundredth is
            in organizations of its own.
        tags: those of one repository; nine tenths of them are in the other region, too.
        users: each of them has a permission in the organization.
        rules: auto-sync rules, each of another repository, so that there are at least as many of these.
        deliveries: calls of the triggers of one repository.
        audit_records: audit records, over the last ten days.
        processes: processes that use the database.
    """

    jobs: int = 1_000_000
    repositories: int = 10_000
    tags: int = 10_000
    users: int = 1_000
    rules: int = 1_000
    deliveries: int = 100_000
    audit_records: int = 500_000
    processes: int = 50

    def divided(self, fraction: int) -> "Scale":
        """Return a smaller installation, for a quick run."""
        least = 10
        return Scale(*(max(getattr(self, field.name) // fraction, least) for field in fields(self)))

    def describe(self) -> str:
        """Return the numbers as text."""
        return ", ".join(f"{getattr(self, field.name):,} {field.name.replace('_', ' ')}" for field in fields(self))
