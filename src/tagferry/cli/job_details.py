"""The details of a sync job as text."""

from collections.abc import Iterator, Mapping
from typing import IO, Any

from rich.filesize import decimal

from tagferry.cli.follow import waiting_for
from tagferry.cli.lines import write_line
from tagferry.cli.times import show_time

_WIDTH = 13
_SECONDS = len("2024-05-06T07:08:09Z")
_METHODS = {"uploaded": "copied", "mounted": "mounted", "present": "already there"}


def write_job(stream: IO[str], job: Mapping[str, Any]) -> None:
    """Print a job (`JobDetailsItem` in the OpenAPI document)."""
    for name, value in _fields(job):
        write_line(stream, f"{name:<{_WIDTH}} {value}")
    write_line(stream, "")
    for event in job["timeline"]:
        write_line(stream, f"{show_time(event.get('at')):<{_SECONDS}}  {_described(event)}")


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
    for method, name in _METHODS.items():
        if job[method]["blobs"]:
            yield name, f"{decimal(job[method]['bytes'])} in {_blobs(job[method]['blobs'])}"
    yield "requested", f"{show_time(job['createdAt'])} by {job['syncOperatorName']} (request {job['requestId']})"


def _described(event: Mapping[str, Any]) -> str:
    """Describe an event of the timeline."""
    match event["event"]:
        case "queued":
            return f"queued behind job {event['behind']}" if "behind" in event else "queued"
        case "started":
            return f"started by {event['worker']} (attempt {event['attempt']})"
        case "compared":
            return f"compared: the target has {event['digest']}" if "digest" in event else "compared"
        case "planned":
            return f"planned: {_blobs(event.get('count', 0))}, {decimal(event.get('bytes', 0))}"
        case "blob":
            origin = f" from {event['mountedFrom']}" if "mountedFrom" in event else ""
            return f"blob {event['digest']} {_METHODS[event['method']]}{origin}, {decimal(event.get('bytes', 0))}"
        case "tag_written":
            return f"wrote the tag: {event['digest']}"
        case "attempt_failed":
            again = f"; next attempt at {show_time(event['nextAttemptAt'])}" if "nextAttemptAt" in event else ""
            return f"failed: {event['reason']}{again}"
        case "blobs_omitted":
            return f"… {_blobs(event['count'])} not listed"
        case "attempts_omitted":
            return f"… {event['count']} attempts not listed"
        case "ended":
            return f"ended: {event['status']}: {event.get('reason', '')}".removesuffix(": ")
        case other:
            return str(other).replace("_", " ")


def _blobs(count: int) -> str:
    return "1 blob" if count == 1 else f"{count} blobs"
