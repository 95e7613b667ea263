"""Follow sync jobs through the API and show their progress: bars on a terminal (`bars`), lines elsewhere."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol, Self, TextIO, TypeVar

from tagferry.cli.client import ManagementClient
from tagferry.cli.lines import PROGRESS_SECONDS, write_line
from tagferry.cli.server_error import ServerError, ServerUnreachable
from tagferry.direct.sizes import format_size
from tagferry.names import Namespace, Repository

_Result = TypeVar("_Result")

_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 120.0
"""The maximum time for which a server may be unreachable: when it is restarted, its jobs continue."""
_AGAIN_SECONDS = 1.0
_RESTARTING = frozenset({502, 503, 504})
"""The statuses with which a server that starts or stops answers, or the proxy in front of it."""
ENDED = frozenset({"success", "failed", "timeout", "cancel", "existed"})
"""The statuses of jobs that have ended."""
COLOURS = {"success": "green", "existed": "yellow", "running": "cyan", "waiting": "dim"}
"""The color of each status; others are red."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Jobs of one repository to follow.

    Attributes:
        tags: the tag of each job, by job id.
        request_id: the request that started them.
        target: `REGION/ORG`, if others are followed that have another target.
    """

    namespace: Namespace
    repository: Repository
    tags: Mapping[int, str]
    request_id: str = ""
    target: str = ""

    def label(self, tag: str) -> str:
        """Return the image's name, with the target if there are several."""
        name = f"{self.namespace}/{self.repository}:{tag}"
        return f"{name} to {self.target}" if self.target else name


class Display(Protocol):
    """Shows the progress of jobs while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, label: str, job: Mapping[str, Any]) -> None:
        """Show the state of a job."""
        ...


class Retries:
    """Asks a server for the state of jobs, and again while it cannot be reached; says so once for all that ask."""

    def __init__(self) -> None:
        self._unanswered = 0

    async def run(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return the server's answer.

        Raises:
            ServerUnreachable: it could not be reached for two minutes.
            ServerError: it refused the request, or could not answer for two minutes.
        """
        deadline: float | None = None
        try:
            while True:
                try:
                    return await ask()
                except (ServerUnreachable, ServerError) as error:
                    if isinstance(error, ServerError) and error.status not in _RESTARTING:
                        raise
                    if deadline is None:
                        deadline = time.monotonic() + _PATIENCE_SECONDS
                        if not self._unanswered:
                            write_line(sys.stderr, f"{error}; asking again for up to {_PATIENCE_SECONDS:.0f} seconds")
                        self._unanswered += 1
                    elif time.monotonic() >= deadline:
                        raise
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            if deadline is not None:
                self._unanswered -= 1


async def follow(client: ManagementClient, followed: list[Followed], *, on: Display) -> list[dict[str, Any]]:
    """Show the progress until every job has ended. Return the final records."""
    retries = Retries()
    with on as display:
        ends = await asyncio.gather(*(_follow_one(client, one, display.show, retries) for one in followed))
    return [job for end in ends for job in end]


Show = Callable[[str, Mapping[str, Any]], None]


async def _follow_one(
    client: ManagementClient, followed: Followed, show: Show, retries: Retries
) -> list[dict[str, Any]]:
    ended: dict[int, dict[str, Any]] = {}
    while True:
        waiting = [job_id for job_id in followed.tags if job_id not in ended]
        found = await retries.run(partial(client.sync_jobs, followed.namespace, followed.repository, waiting))
        for job_id, job in found.items():
            show(followed.label(job["tag"]), job)
            if job["status"] in ENDED:
                ended[job_id] = job
        if len(ended) == len(followed.tags):
            return [ended[job_id] for job_id in followed.tags]
        await asyncio.sleep(_POLL_SECONDS)


def waiting_for(job: Mapping[str, Any], now: datetime | None = None) -> str:
    """Describe the next attempt of a waiting job, with its time and the last error; "" if the job has not failed."""
    if not job.get("failures") or job["status"] != "waiting":
        return ""
    due = job.get("nextAttemptAt")
    seconds = (datetime.fromisoformat(due) - (now or datetime.now(UTC))).total_seconds() if due else 0
    when = f" in {timedelta(seconds=round(seconds))}" if round(seconds) > 0 else ""
    return f"waiting for attempt {job['attempts'] + 1}{when}: {job['lastError']}"


class Attempts:
    """The failed attempts that were shown, so that each is shown once."""

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def new(self, label: str, job: Mapping[str, Any]) -> str:
        """Describe the next attempt of a waiting job after a failed one; "" if that was shown."""
        waits = waiting_for(job)
        if not waits or self._shown.get(label) == job["attempts"]:
            return ""
        self._shown[label] = job["attempts"]
        return waits


class LineDisplay:
    """A `Display` with a line when an image ends or is retried, and every ten seconds one with the progress.

    Args:
        stream: gets the lines.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._attempts = Attempts()
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._shown_at = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def show(self, label: str, job: Mapping[str, Any]) -> None:
        """Print the end or the next attempt of a job, or the progress of all of them if it is time."""
        self._jobs[label] = job
        if waits := self._attempts.new(label, job):
            write_line(self._stream, f"{label}  {waits}")
        if job["status"] in ENDED:
            write_line(self._stream, f"{label}  {job['status']}  {job['reason']}")
        if self._clock() - self._shown_at >= PROGRESS_SECONDS:
            self._shown_at = self._clock()
            write_line(self._stream, progress_of(self._jobs.values()))


def progress_of(jobs: Collection[Mapping[str, Any]]) -> str:
    """Describe the progress of jobs in one line."""
    ended = sum(job["status"] in ENDED for job in jobs)
    running = sum(job["status"] == "running" for job in jobs)
    done, total = (sum(job.get(name) or 0 for job in jobs) for name in ("bytesDone", "bytesTotal"))
    rate = sum(job.get("bytesPerSecond") or 0 for job in jobs)
    return (
        f"progress: {ended} of {len(jobs)} tags ended, {running} running, "
        f"{format_size(done)} of {format_size(total)}, {format_size(rate)}/s"
    )


def display_on(stream: TextIO) -> Display:
    """Return bars for a terminal, and lines for anything else."""
    if not stream.isatty():
        return LineDisplay(stream)
    from rich.console import Console

    from tagferry.cli.bars import BarDisplay

    return BarDisplay(Console(file=stream, highlight=False))
