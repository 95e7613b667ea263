"""Find environment variables that were meant to be settings."""

import os

from tagferry.app.startup.problem import Problem
from tagferry.settings import Settings
from tagferry.settings.explanation import similar_setting
from tagferry.settings.sources import ENVIRONMENT_DELIMITER, ENVIRONMENT_PREFIX


def check_environment() -> list[Problem]:
    """Find variables that begin as settings do, and have a similar name as one.

    Others may have nothing to do with settings: Kubernetes sets `TAGFERRY_PORT` for a service of this name.
    """
    problems = []
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        name, delimiter, rest = variable[len(ENVIRONMENT_PREFIX) :].lower().partition(ENVIRONMENT_DELIMITER)
        if name in Settings.model_fields or (similar := similar_setting(name, Settings)) is None:
            continue
        meant = f"{ENVIRONMENT_PREFIX}{similar}{delimiter}{rest}".upper()
        sentence = f"the environment variable {variable} sets nothing"
        problems.append(Problem("environment", sentence, f"did you mean {meant}?", "warning"))
    return problems
