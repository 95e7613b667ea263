"""`--check` of `tagferry serve` and `tagferry worker`: list all problems without starting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tagferry import logs
from tagferry.app.startup.configuration import load_settings
from tagferry.app.startup.problem import Problem, StartRefused
from tagferry.app.startup.site import check_site
from tagferry.cli.event_loop import run
from tagferry.cli.options import out
from tagferry.printable import printable

Check = Annotated[
    bool, typer.Option("--check", help="Check everything that the start depends on, list all problems, and exit.")
]


def check(config: Path, *, serves: bool) -> None:
    """Print each problem as a line; exit with 1 if a start would fail.

    Args:
        config: the configuration file.
        serves: whether the process is to serve its regions.
    """
    # What is logged meanwhile is in the problems, too.
    logs.configure(style="console", level="error")
    problems = _problems(config, serves=serves)
    for problem in problems:
        out.print(f"{problem.severity}: {printable(str(problem))}", soft_wrap=True, markup=False)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)
    out.print(f"{config} is valid, and everything that it names can be used", soft_wrap=True, markup=False)


def _problems(config: Path, *, serves: bool) -> Sequence[Problem]:
    try:
        settings = load_settings(config)
    except StartRefused as error:
        return error.problems
    return run(check_site(settings, serves=serves))
