"""Follow sync jobs through the API and show their progress: bars on a terminal, lines elsewhere."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from tagferry.cli.client import ManagementClient
from tagferry.names import Namespace, Repository

_POLL_SECONDS = 0.25
_ENDED = frozenset({"success", "failed", "timeout", "cancel", "existed"})
COLOURS = {"success": "green", "existed": "yellow", "running": "cyan", "waiting": "dim"}
"""The color of each status; others are red."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Jobs of one repository to follow.

    Attributes:
        tags: the tag of each job, by job id.
        request_id: the request that started them.
    """

    namespace: Namespace
    repository: Repository
    tags: Mapping[int, str]
    request_id: str = ""

    def label(self, tag: str) -> str:
        """Return the image's name."""
        return f"{self.namespace}/{self.repository}:{tag}"


async def follow(client: ManagementClient, followed: list[Followed], *, console: Console) -> list[dict[str, Any]]:
    """Show the progress until every job has ended. Return the final records."""
    with _ProgressDisplay(console) as display:
        ends = await asyncio.gather(*(_follow_one(client, one, display.show) for one in followed))
    return [job for end in ends for job in end]


Show = Callable[[str, dict[str, Any]], None]


async def _follow_one(client: ManagementClient, followed: Followed, show: Show) -> list[dict[str, Any]]:
    ended: dict[int, dict[str, Any]] = {}
    while True:
        waiting = [job_id for job_id in followed.tags if job_id not in ended]
        for job_id, job in (await client.sync_jobs(followed.namespace, followed.repository, waiting)).items():
            show(followed.label(job["tag"]), job)
            if job["status"] in _ENDED:
                ended[job_id] = job
        if len(ended) == len(followed.tags):
            return [ended[job_id] for job_id in followed.tags]
        await asyncio.sleep(_POLL_SECONDS)


def waiting_for(job: Mapping[str, Any], now: datetime | None = None) -> str:
    """Describe the next attempt of a waiting job, with its time and the last error; "" if the job has not failed."""
    if not job.get("attempts") or job["status"] != "waiting":
        return ""
    due = job.get("nextAttemptAt")
    seconds = (datetime.fromisoformat(due) - (now or datetime.now(UTC))).total_seconds() if due else 0
    when = f" in {timedelta(seconds=round(seconds))}" if round(seconds) > 0 else ""
    return f"waiting for attempt {job['attempts'] + 1}{when}: {job['lastError']}"


class _ProgressDisplay:
    """A progress bar for each image on a terminal, else a line when an image ends or is retried."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._attempts: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "_ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, label: str, job: dict[str, Any]) -> None:
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(label, total=None, speed="", status="")
        status = job["status"]
        self._progress.update(
            self._bars[label],
            completed=job["bytesDone"],
            total=job["bytesTotal"] or (1 if status in _ENDED else None),
            speed=_speed(job),
            status=f"[{COLOURS.get(status, 'red')}]{status}",
        )
        self._print_attempt(label, job)
        if status in _ENDED and not self._console.is_terminal:
            self._console.print(f"{label}  {status}  {job['reason']}", soft_wrap=True, markup=False)

    def _print_attempt(self, label: str, job: Mapping[str, Any]) -> None:
        """Print each failed attempt once with its error; on a terminal, above the bars."""
        waits = waiting_for(job)
        if waits and self._attempts.get(label) != job["attempts"]:
            self._attempts[label] = job["attempts"]
            self._console.print(f"{label}  {waits}", soft_wrap=True, markup=False)


def _speed(job: Mapping[str, Any]) -> str:
    """Format the rate and the remaining time that the server reports for a running copy."""
    rate, left = job["bytesPerSecond"], job["secondsLeft"]
    if rate is None:
        return ""
    return f"{decimal(rate)}/s" if left is None else f"{decimal(rate)}/s, {timedelta(seconds=left)} left"
