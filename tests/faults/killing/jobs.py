"""The records of jobs and workers, read directly from the database, and the fate of jobs whose worker was lost."""

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

_LOOK_SECONDS = 0.1
_JOBS = (
    "SELECT id, target_region, target_namespace, repository, tag, status, reason, worker_id, attempts, started_at"
    " FROM sync_jobs"
)
_WORKERS = "SELECT id, name FROM workers"


@dataclass(frozen=True)
class Job:
    """A job's record.

    Attributes:
        started_at: when its last worker started it, seconds since the epoch.
    """

    id: int
    region: str
    namespace: str
    repository: str
    tag: str
    status: str
    reason: str
    worker_id: int | None
    starts: int
    started_at: float

    @property
    def is_open(self) -> bool:
        return self.status in ("waiting", "running")


@dataclass
class Loss:
    """A worker that was lost at a moment, and the jobs that it ran then, by id with their starts until then."""

    at: float
    starts: dict[int, int]
    again: dict[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> list[float]:
        """Return the seconds from the loss until each of the jobs ran again."""
        return [at - self.at for at in self.again.values()]


class JobTable:
    """Reads tagferry's database at this URL from time to time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._losses: list[Loss] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def jobs(self, namespace: str | None = None) -> list[Job]:
        """Return all jobs, or those to one target organization."""
        where, values = ("", ()) if namespace is None else (" WHERE target_namespace = ?", (namespace,))
        return [_job(row) for row in self._select(f"{_JOBS}{where}", values)]

    def ends(self, job_ids: Iterable[int]) -> list[float]:
        """Return the ends of these jobs, in seconds since the epoch."""
        rows = self._select("SELECT id, ended_at FROM sync_jobs")
        wanted = set(job_ids)
        return [_moment(ended) for job_id, ended in rows if job_id in wanted and ended is not None]

    def worker(self, process_id: int) -> int | None:
        """Return the latest id of the worker of a process."""
        ids = [row[0] for row in self._select(_WORKERS) if row[1].endswith(f":{process_id}")]
        return max(ids, default=None)

    def lose(self, worker_id: int | None, at: float) -> Loss:
        """Record the running jobs of a worker that has just been lost, and follow them from now on."""
        running = [job for job in self.jobs() if job.status == "running" and job.worker_id == worker_id]
        loss = Loss(at, {job.id: job.starts for job in running} if worker_id is not None else {})
        self._losses.append(loss)
        return loss

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            pending = [loss for loss in self._losses if len(loss.again) < len(loss.starts)]
            if not pending:
                continue
            jobs = {job.id: job for job in self.jobs()}
            for loss in pending:
                for job_id, starts in loss.starts.items():
                    if job_id not in loss.again and (job := jobs[job_id]).starts > starts:
                        loss.again[job_id] = job.started_at

    def _select(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        if self._url.startswith("sqlite"):
            path = Path(self._url.partition("///")[2])
            with closing(sqlite3.connect(path, timeout=10)) as database:
                return database.execute(statement, tuple(values)).fetchall()
        url = self._url.replace("+psycopg", "")
        with psycopg.connect(url, connect_timeout=10) as server:
            return server.execute(statement.replace("?", "%s"), tuple(values)).fetchall()


def _job(row: Any) -> Job:
    *place, status, reason, worker_id, starts, started_at = row
    job_id, region, namespace, repository, tag = place
    return Job(
        id=job_id,
        region=region,
        namespace=namespace,
        repository=repository,
        tag=tag,
        status=status,
        reason=reason or "",
        worker_id=worker_id,
        starts=starts,
        started_at=_moment(started_at),
    )


def _moment(value: Any) -> float:
    if value is None:
        return 0.0
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
