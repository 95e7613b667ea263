"""Run a command that follows sync jobs, and report how it ended."""

import sys
from collections.abc import Coroutine
from typing import Any

from tagferry.cli.event_loop import run
from tagferry.cli.exit_codes import INTERRUPTED, combined, of_job
from tagferry.cli.follow import Followed
from tagferry.cli.lines import write_json, write_line, write_rewritten
from tagferry.cli.server_error import ServerError, ServerUnreachable

Jobs = list[dict[str, Any]]


def run_interruptible(work: Coroutine[Any, Any, Jobs], followed: list[Followed]) -> Jobs:
    """Run work that follows jobs. If it ends early, report that the jobs continue, and what to do."""
    try:
        return run(work)
    except (ServerUnreachable, ServerError):
        for one in followed:
            repository = f"{one.namespace}/{one.repository}"
            write_line(
                sys.stderr,
                f"the jobs of {repository} continue on the server; wait for them with: "
                f"tagferry job wait {repository} --request {one.request_id}",
            )
        raise
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
        raise SystemExit(INTERRUPTED) from None


def report_outcome(jobs: Jobs, *, as_json: bool, failed: int = 0) -> int:
    """Print the number of tags that were synchronized; return the exit code.

    Args:
        jobs: the final records of the jobs.
        as_json: whether to print the records instead.
        failed: further tags, which have no job because their request was refused.
    """
    others = [job for job in jobs if job["status"] != "success"]
    if as_json:
        write_json(jobs)
    # Progress bars do not show the reasons; line output has already.
    for job in others if sys.stderr.isatty() else ():
        target = f"{job['remoteRegionId']}/{job['remoteNamespace']}"
        write_line(sys.stderr, f"{job['tag']} to {target}: {job['status']}: {job['reason']}")
    if not as_json:
        for job in jobs:
            image = f"{job['namespace']}/{job['repoName']}:{job['tag']}"
            write_rewritten(sys.stdout, image, job.get("rewritten"))
        write_line(sys.stdout, f"{len(jobs) - len(others)} of {len(jobs) + failed} synchronized")
    return combined([of_job(job["status"]) for job in jobs])
