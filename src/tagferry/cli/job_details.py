"""The details of a sync job as text."""

from collections.abc import Iterator, Mapping
from typing import IO, Any

from rich.filesize import decimal

from tagferry.cli.follow import waiting_for
from tagferry.cli.lines import write_line

_WIDTH = 10


def write_job(stream: IO[str], job: Mapping[str, Any]) -> None:
    """Print a job (`JobDetails` in the OpenAPI document)."""
    for name, value in _fields(job):
        write_line(stream, f"{name:<{_WIDTH}} {value}")


def _fields(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "job", str(job["id"])
    yield "image", f"{job['sourceRegionId']}/{job['namespace']}/{job['repoName']}:{job['tag']}"
    yield "target", f"{job['remoteRegionId']}/{job['remoteNamespace']}"
    yield "status", job["status"]
    if reason := job["reason"] or waiting_for(job):
        yield "reason", reason
    if job["digest"]:
        yield "digest", job["digest"]
    if job["bytesTotal"]:
        yield "progress", f"{decimal(job['bytesDone'])} of {decimal(job['bytesTotal'])}"
    yield "requested", f"{job['createdAt']} by {job['syncOperatorName']} (request {job['requestId']})"
