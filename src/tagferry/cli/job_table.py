"""The table of sync jobs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tagferry.cli.follow import COLOURS, waiting_for


def job_table(jobs: list[dict[str, Any]], *, with_image: bool) -> Table:
    """Return the table of jobs, newest first.

    Args:
        jobs: the records of the jobs.
        with_image: whether they are of several repositories.
    """
    table = Table("id", "image" if with_image else "tag", "target", "status", "age", "progress", "reason", box=None)
    for job in jobs:
        status = job["status"]
        table.add_row(
            str(job["id"]),
            Text(f"{job['namespace']}/{job['repoName']}:{job['tag']}" if with_image else job["tag"]),
            f"{job['remoteRegionId']}/{job['remoteNamespace']}",
            f"[{COLOURS.get(status, 'red')}]{status}",
            _age(job["createdAt"]),
            f"{decimal(job['bytesDone'])} of {decimal(job['bytesTotal'])}" if job["bytesTotal"] else "",
            Text(job["reason"] or waiting_for(job)),
        )
    return table


def _age(created_at: str) -> str:
    """Return the time since then in whole seconds."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created_at)).total_seconds()
    return str(timedelta(seconds=max(0, round(seconds))))
