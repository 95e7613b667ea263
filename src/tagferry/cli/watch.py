"""Run a command that follows sync jobs, and report how it ended."""

import json
from collections.abc import Coroutine
from typing import Any

import typer

from tagferry.cli.follow import Followed
from tagferry.cli.options import err, out, run
from tagferry.cli.plan_table import show_rewritten

_INTERRUPTED = 130
"""The exit code that shells use for a program ended by Ctrl-C."""

Jobs = list[dict[str, Any]]


def run_interruptible(work: Coroutine[Any, Any, Jobs], followed: list[Followed]) -> Jobs:
    """Run work that follows jobs. On Ctrl-C, report that the jobs continue, and how to cancel them."""
    try:
        return run(work)
    except KeyboardInterrupt:
        for one in followed:
            repository = f"{one.namespace}/{one.repository}"
            err.print(
                f"the jobs of {repository} continue on the server; cancel them with: "
                f"tagferry job cancel {repository} --request {one.request_id}",
                soft_wrap=True,
                markup=False,
            )
        if not followed:
            err.print("interrupted before the server answered; check for started jobs with: tagferry job list")
        raise typer.Exit(_INTERRUPTED) from None


def report_outcome(jobs: Jobs, *, as_json: bool) -> None:
    """Print the number of tags that were synchronized. Exit with code 1 unless all were."""
    failed = [job for job in jobs if job["status"] != "success"]
    if as_json:
        out.print_json(json.dumps(jobs))
    # Progress bars do not show the reasons; line output has already.
    for job in failed if err.is_terminal else ():
        err.print(f"{job['tag']}: {job['status']}: {job['reason']}", soft_wrap=True, markup=False, style="red")
    if not as_json:
        for job in jobs:
            show_rewritten(f"{job['namespace']}/{job['repoName']}:{job['tag']}", job.get("rewritten"), out)
        out.print(f"{len(jobs) - len(failed)} of {len(jobs)} synchronized")
    if failed:
        raise typer.Exit(1)
