"""How a command that watches sync jobs ends: with what became of them, or interrupted."""

import json
from collections.abc import Coroutine
from typing import Any

import typer

from tagferry.cli.follow import Followed
from tagferry.cli.options import err, out, run
from tagferry.cli.plan_table import show_rewritten

_INTERRUPTED = 130
"""The exit code of a program that a Ctrl-C ended, as shells have it."""

Jobs = list[dict[str, Any]]


def watch(work: Coroutine[Any, Any, Jobs], followed: list[Followed]) -> Jobs:
    """Run work that follows jobs; where a Ctrl-C ends it, tell that the jobs go on, and how they are stopped."""
    try:
        return run(work)
    except KeyboardInterrupt:
        for one in followed:
            place = f"{one.namespace}/{one.repository}"
            err.print(
                f"{place} goes on in the server; to stop it: tagferry job cancel {place} --request {one.request_id}",
                soft_wrap=True,
                markup=False,
            )
        if not followed:
            err.print("interrupted before the server had answered; `tagferry job list` tells whether something goes on")
        raise typer.Exit(_INTERRUPTED) from None


def conclude(jobs: Jobs, *, as_json: bool) -> None:
    """Tell how many tags are in place; exit code 1 unless all are."""
    failed = [job for job in jobs if job["status"] != "success"]
    if as_json:
        out.print_json(json.dumps(jobs))
    # Bars do not tell reasons; lines have told them already.
    for job in failed if err.is_terminal else ():
        err.print(f"{job['tag']}: {job['status']}: {job['reason']}", soft_wrap=True, markup=False, style="red")
    if not as_json:
        for job in jobs:
            show_rewritten(f"{job['namespace']}/{job['repoName']}:{job['tag']}", job.get("rewritten"), out)
        out.print(f"{len(jobs) - len(failed)} of {len(jobs)} in place")
    if failed:
        raise typer.Exit(1)
