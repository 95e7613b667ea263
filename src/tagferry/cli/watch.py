"""Run a command that follows sync jobs, and report how it ended."""

import sys
from collections.abc import Coroutine
from typing import Any

from tagferry.cli.event_loop import run
from tagferry.cli.follow import Followed
from tagferry.cli.lines import write_json, write_line, write_rewritten

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
            write_line(
                sys.stderr,
                f"the jobs of {repository} continue on the server; cancel them with: "
                f"tagferry job cancel {repository} --request {one.request_id}",
            )
        if not followed:
            write_line(
                sys.stderr, "interrupted before the server answered; check for started jobs with: tagferry job list"
            )
        raise SystemExit(_INTERRUPTED) from None


def report_outcome(jobs: Jobs, *, as_json: bool) -> None:
    """Print the number of tags that were synchronized. Exit with code 1 unless all were."""
    failed = [job for job in jobs if job["status"] != "success"]
    if as_json:
        write_json(jobs)
    # Progress bars do not show the reasons; line output has already.
    for job in failed if sys.stderr.isatty() else ():
        write_line(sys.stderr, f"{job['tag']}: {job['status']}: {job['reason']}")
    if not as_json:
        for job in jobs:
            image = f"{job['namespace']}/{job['repoName']}:{job['tag']}"
            write_rewritten(sys.stdout, image, job.get("rewritten"))
        write_line(sys.stdout, f"{len(jobs) - len(failed)} of {len(jobs)} synchronized")
    if failed:
        raise SystemExit(1)
