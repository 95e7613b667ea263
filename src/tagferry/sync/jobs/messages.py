"""The messages about jobs between the processes of one database."""

from dataclasses import replace
from typing import NamedTuple, Self

from tagferry.coordination.pubsub import Topic, number_topic
from tagferry.copy.progress import ProgressSnapshot
from tagferry.sync.jobs.model import JobStatus, SyncJob

JOBS_READY = number_topic("work")
"""Jobs are ready to run; the number carries no information."""
JOBS_ENDED = number_topic("ended")
"""The ids of jobs that have ended."""
JOBS_CANCELLED = number_topic("cancelled")
"""The ids of cancelled jobs, which may still be running."""


class JobProgress(NamedTuple):
    """The progress of a running job, sent by its worker.

    Attributes:
        rate: bytes per second; None if unknown.
    """

    job_id: int
    bytes_done: int
    bytes_total: int
    blobs_done: int
    blobs_total: int
    rate: int | None

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a message."""
        job_id, bytes_done, bytes_total, blobs_done, blobs_total, rate = text.split(":")
        numbers = (int(job_id), int(bytes_done), int(bytes_total), int(blobs_done), int(blobs_total))
        return cls(*numbers, int(rate) if rate else None)

    def encode(self) -> str:
        """Write the message."""
        return ":".join("" if number is None else str(number) for number in self)

    @property
    def snapshot(self) -> ProgressSnapshot:
        """The progress in the form in which the worker knows it."""
        left = (self.bytes_total - self.bytes_done) / self.rate if self.rate else None
        return ProgressSnapshot(self.blobs_total, self.blobs_done, self.rate, left)

    def applied_to(self, job: SyncJob) -> SyncJob:
        """Return a job with this progress."""
        return replace(
            job,
            status=JobStatus.RUNNING,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            snapshot=self.snapshot,
        )


JOBS_PROGRESSED = Topic("progress", encode=JobProgress.encode, decode=JobProgress.decode)
"""The progress of running jobs, at most twice a second for each."""
