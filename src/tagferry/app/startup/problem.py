"""A problem of a configuration or its environment, in words for operators."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import structlog

from tagferry.errors import DatabaseUnavailable, TagferryError

log = structlog.get_logger("tagferry")

Severity = Literal["error", "warning", "note"]
"""`error`: a server does not start with it; `warning`: something will fail; `note`: nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator has to know.

    Attributes:
        subject: the part that it concerns, such as `region cn-north-4`, `database` or `data_dir`.
        sentence: what is wrong, with the region, the setting and the file.
        remedy: what to do about it; empty if the sentence says so.
        severity: how bad it is.
    """

    subject: str
    sentence: str
    remedy: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


def problem_of(subject: str, error: TagferryError) -> Problem:
    """Return the problem that an error reports."""
    return Problem(subject, error.detail if isinstance(error, DatabaseUnavailable) else error.message)


class StartRefused(TagferryError):
    """The process cannot start. The message is the first error; more are counted.

    Attributes:
        problems: all problems, among them at least one error.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        errors = [str(problem) for problem in self.problems if problem.severity == "error"]
        more = len(errors) - 1
        counted = f" (and {more} more {'error' if more == 1 else 'errors'}; list them with --check)" if more else ""
        super().__init__(f"{errors[0]}{counted}")


def refuse(problems: Iterable[Problem]) -> None:
    """Log warnings; raise StartRefused if there are errors."""
    found = list(problems)
    for problem in found:
        if problem.severity == "warning":
            log.warning("found a problem at the start", subject=problem.subject, problem=str(problem))
    if any(problem.severity == "error" for problem in found):
        raise StartRefused(found)
