"""Progress bars for followed jobs, on a terminal."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from tagferry.cli.follow import COLOURS, ENDED, Attempts


class BarDisplay:
    """A `Display` with a progress bar for each image, and a line above them for each failed attempt.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._attempts = Attempts()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[status]}"),
            console=console,
        )

    def __enter__(self) -> "BarDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, label: str, job: Mapping[str, Any]) -> None:
        """Show the state of a job."""
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(label, total=None, speed="", status="")
        status = job["status"]
        self._progress.update(
            self._bars[label],
            completed=job["bytesDone"],
            total=job["bytesTotal"] or (1 if status in ENDED else None),
            speed=_speed(job),
            status=f"[{COLOURS.get(status, 'red')}]{status}",
        )
        if waits := self._attempts.new(label, job):
            self._console.print(f"{label}  {waits}", soft_wrap=True, markup=False)


def _speed(job: Mapping[str, Any]) -> str:
    """Format the rate and the remaining time that the server reports for a running copy."""
    rate, left = job["bytesPerSecond"], job["secondsLeft"]
    if rate is None:
        return ""
    return f"{decimal(rate)}/s" if left is None else f"{decimal(rate)}/s, {timedelta(seconds=left)} left"
