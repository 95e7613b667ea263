"""`tagferry job`: list, cancel and retry sync jobs."""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.follow import COLOURS, Followed, display_on, follow, waiting_for
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, out
from tagferry.cli.watch import report_outcome, run_interruptible
from tagferry.errors import Invalid
from tagferry.names import Namespace, Repository

app = typer.Typer(help="List, cancel and retry sync jobs. Each job copies one tag.", no_args_is_help=True)

RepositoryArgument = Annotated[str, typer.Argument(metavar="ORG/REPO", help="The source repository.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID...]", help="Select jobs by id.")]
Request = Annotated[str, typer.Option("--request", metavar="ID", help="Select the jobs of this request.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job records as JSON.")]


@app.command("list")
def list_jobs(
    repository: RepositoryArgument,
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    request: Request = "",
    status: Annotated[str, typer.Option(help="Filter by status, e.g. failed,timeout.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")] = 50,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """List the newest sync jobs of a repository."""

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.list_jobs(*_parse(repository), limit=limit, status=status, request=request)

    jobs = run(work())
    if as_json:
        out.print_json(json.dumps(jobs))
    else:
        out.print(_table(jobs))


@app.command()
def cancel(
    repository: RepositoryArgument,
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ids: Ids = None,
    request: Request = "",
    ca_file: CaFile = None,
) -> None:
    """Cancel sync jobs that have not ended, also for other requests that wait for them."""
    wanted = _selection(ids, request)

    async def work() -> list[int]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.cancel_jobs(*_parse(repository), wanted)

    cancelled = run(work())
    for job_id in cancelled:
        out.print(f"{job_id} cancelled")
    for job_id in sorted(set(ids or ()) - set(cancelled)):
        out.print(f"{job_id} not cancelled: it has ended, or is not a job of {repository}", markup=False)
    if not cancelled and request:
        out.print("no job of this request is waiting or running")


@app.command()
def retry(
    repository: RepositoryArgument,
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ids: Ids = None,
    request: Request = "",
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Retry jobs that failed, timed out, were cancelled or wait for their next attempt, and follow them.

    Exits with code 1 if a tag is not copied.
    """
    wanted = _selection(ids, request)
    followed: list[Followed] = []

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            started = await client.retry_jobs(*_parse(repository), wanted)
            if started.tags:
                followed.append(Followed(*_parse(repository), started.tags, started.request_id))
            return await follow(client, followed, on=display_on(sys.stderr))

    report_outcome(run_interruptible(work(), followed), as_json=as_json)


def _parse(text: str) -> tuple[Namespace, Repository]:
    namespace, _, repository = text.partition("/")
    return Namespace(namespace, field="ORG"), Repository(repository, field="REPO")


def _selection(ids: list[int] | None, request: str) -> dict[str, Any]:
    if bool(ids) == bool(request):
        raise Invalid("ID", "or --request is required, but not both; list both with: tagferry job list --json")
    return {"requestId": request} if request else {"jobs": ids}


def _table(jobs: list[dict[str, Any]]) -> Table:
    table = Table("id", "tag", "target", "status", "age", "progress", "reason", box=None)
    for job in jobs:
        status = job["status"]
        table.add_row(
            str(job["id"]),
            Text(job["tag"]),
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
