"""Check the environment, the files that are named and the folders, as `tagferry serve --check` does."""

from collections.abc import Collection

from tagferry.app.startup.environment import check_environment
from tagferry.app.startup.files import check_files
from tagferry.app.startup.folders import check_folders
from tagferry.app.startup.problem import Problem
from tagferry.diagnosis.model import Component, Finding, Level
from tagferry.names import RegionId
from tagferry.settings import Settings

_LEVELS = {"error": Level.PROBLEM, "warning": Level.WARNING, "note": Level.OK}


def check_start(settings: Settings, *, known: Collection[RegionId] = ()) -> list[Finding]:
    """Check everything but the addresses and the database, which have checks of their own.

    Args:
        settings: the configuration.
        known: the regions about whose disks there is a finding already.
    """
    environment = [finding_of(Component.CONFIGURATION, problem) for problem in check_environment()]
    # A warning about a folder is about its disk.
    of_disks = {(f"region {name}", "warning") for name in known}
    folders = [one for one in check_folders(settings) if (one.subject, one.severity) not in of_disks]
    problems = [*check_files(settings, serves=True), *folders]
    return [*environment, *(finding_of(Component.FILES, problem) for problem in problems)]


def finding_of(component: Component, problem: Problem) -> Finding:
    """Return the finding that a problem of a start is."""
    level = _LEVELS[problem.severity]
    sentence, _, advice = problem.sentence.partition("; ")
    fix = problem.remedy or advice or "correct it in the configuration"
    if level is Level.OK:
        return Finding(level, component, problem.subject, f"{sentence}; {fix}" if problem.remedy else sentence)
    return Finding(level, component, problem.subject, sentence, fix)
