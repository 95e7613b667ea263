"""Check the environment, the files that are named and the folders, as `tagferry serve --check` does."""

from tagferry.app.startup.environment import check_environment
from tagferry.app.startup.files import check_files
from tagferry.app.startup.folders import check_folders
from tagferry.app.startup.problem import Problem
from tagferry.diagnosis.model import Component, Finding, Level
from tagferry.settings import Settings

_LEVELS = {"error": Level.PROBLEM, "warning": Level.WARNING, "note": Level.OK}


def check_start(settings: Settings) -> list[Finding]:
    """Check everything but the addresses and the database, which have checks of their own."""
    environment = [finding_of(Component.CONFIGURATION, problem) for problem in check_environment()]
    problems = [*check_files(settings, serves=True), *check_folders(settings)]
    return [*environment, *(finding_of(Component.FILES, problem) for problem in problems)]


def finding_of(component: Component, problem: Problem) -> Finding:
    """Return the finding that a problem of a start is."""
    level = _LEVELS[problem.severity]
    sentence, _, advice = problem.sentence.partition("; ")
    fix = problem.remedy or advice or "correct it in the configuration"
    if level is Level.OK:
        return Finding(level, component, problem.subject, f"{sentence}; {fix}" if problem.remedy else sentence)
    return Finding(level, component, problem.subject, sentence, fix)
