"""Wait for sync jobs of any repositories."""

import asyncio
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from tagferry.cli import exit_codes
from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.follow import ENDED, Display, Retries, display_on
from tagferry.cli.job_selection import Selection
from tagferry.cli.lines import write_json, write_line
from tagferry.errors import NotFound

POLL_SECONDS = 1.0
Job = dict[str, Any]


def wait_for(client: ManagementClient, selection: Selection, *, timeout: float | None, as_json: bool) -> int:
    """Wait until the selected jobs have ended, and print how; return the exit code.

    Args:
        client: the client of the server, which is closed.
        selection: the jobs.
        timeout: seconds after which to stop waiting; None waits for any time.
        as_json: whether to print the records of the jobs.
    """
    jobs = run(_wait(client, selection, timeout))
    if as_json:
        write_json(jobs)
    open_jobs = [job for job in jobs if job["status"] not in ENDED]
    for job in open_jobs:
        write_line(sys.stderr, f"error: timed out; job {job['id']} is still {job['status']}: {_label(job)}")
    if not as_json:
        succeeded = sum(job["status"] == "success" for job in jobs)
        write_line(sys.stdout, f"{succeeded} of {len(jobs)} synchronized")
    codes = [exit_codes.of_job(job["status"]) for job in jobs if job["status"] in ENDED]
    return exit_codes.combined([*codes, *([exit_codes.TIMED_OUT] if open_jobs else [])])


async def _wait(client: ManagementClient, selection: Selection, timeout: float | None) -> list[Job]:
    async with client:
        jobs = await selection.find(client)
        try:
            async with asyncio.timeout(timeout):
                await follow_jobs(client, jobs, on=display_on(sys.stderr))
        except TimeoutError:
            # What was seen last is reported.
            pass
        return list(jobs.values())


async def follow_jobs(client: ManagementClient, jobs: dict[int, Job], *, on: Display) -> None:
    """Show the progress of jobs until all have ended, and keep their latest records in `jobs`.

    Raises:
        NotFound: a job was deleted meanwhile.
    """
    retries = Retries()
    with on as display:
        _show(display, jobs.values())
        while waiting := [job_id for job_id, job in jobs.items() if job["status"] not in ENDED]:
            await asyncio.sleep(POLL_SECONDS)
            found = await retries.run(partial(client.jobs_by_id, waiting))
            if missing := set(waiting) - set(found):
                raise NotFound("sync job", str(min(missing)))
            jobs.update(found)
            _show(display, found.values())


def _show(display: Display, jobs: Iterable[Job]) -> None:
    for job in jobs:
        display.show(_label(job), job)


def _label(job: Mapping[str, Any]) -> str:
    image = f"{job['namespace']}/{job['repoName']}:{job['tag']}"
    return f"{job['id']}  {image} to {job['remoteRegionId']}/{job['remoteNamespace']}"
