"""Findings: what was checked, what is wrong, and how to fix it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from tagferry.printable import printable


class Level(StrEnum):
    """How bad a finding is.

    - `ok`: as it should be.
    - `warning`: works at present, and needs attention.
    - `problem`: something does not work.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Component(StrEnum):
    """The part of an installation that a finding is about."""

    CONFIGURATION = "configuration"
    FILES = "files"
    CLOCK = "clock"
    DISK = "disk"
    DATABASE = "database"
    PROCESSES = "processes"
    JOBS = "jobs"
    WEBHOOKS = "webhooks"
    ADDRESS = "address"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    Attributes:
        subject: what of the component: a region, an address or a path, or several with commas; empty for the whole.
        message: what was found, in one sentence without secrets.
        fix: what to do, in one sentence; empty if there is nothing to do.
    """

    level: Level
    component: Component
    subject: str
    message: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as `tagferry doctor --json` prints it."""
        return {name: printable(value) for name, value in asdict(self).items()}


class Findings:
    """Collects the findings about one component.

    Args:
        component: the component.
        subject: the subject of findings that have no other one.
    """

    def __init__(self, component: Component, subject: str = "") -> None:
        self._component = component
        self._subject = subject
        self.all: list[Finding] = []

    def ok(self, message: str, *, subject: str | None = None) -> None:
        """Add a finding that something is as it should be."""
        self._add(Level.OK, message, "", subject)

    def warning(self, message: str, fix: str, *, subject: str | None = None) -> None:
        """Add a finding that needs attention."""
        self._add(Level.WARNING, message, fix, subject)

    def problem(self, message: str, fix: str, *, subject: str | None = None) -> None:
        """Add a finding that something does not work."""
        self._add(Level.PROBLEM, message, fix, subject)

    @property
    def is_clean(self) -> bool:
        """True if there are neither warnings nor problems."""
        return worst(self.all) is Level.OK

    def _add(self, level: Level, message: str, fix: str, subject: str | None) -> None:
        subject = self._subject if subject is None else subject
        self.all.append(Finding(level, self._component, subject, message, fix))


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, with one for all warnings or problems that differ only in their subjects."""
    found: dict[Finding, list[str]] = {}
    for finding in findings:
        key = finding if finding.level is Level.OK else replace(finding, subject="")
        found.setdefault(key, []).append(finding.subject)
    return [replace(finding, subject=", ".join(subjects)) for finding, subjects in found.items()]


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level; `ok` if there are no findings."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.PROBLEM, Level.WARNING) if level in levels), Level.OK)
