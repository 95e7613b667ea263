"""`tagferry job`: list, show, cancel and retry sync jobs."""

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
from tagferry.cli.job_details import write_job
from tagferry.cli.lines import write_json
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, out
from tagferry.cli.references import parse_repository, parse_target
from tagferry.cli.times import parse_time
from tagferry.cli.watch import report_outcome, run_interruptible
from tagferry.errors import Invalid

app = typer.Typer(
    add_completion=False, help="List, show, cancel and retry sync jobs. Each job copies one tag.", no_args_is_help=True
)

Selected = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ORG/REPO] [ID...]", help="Jobs by id, of any repositories, or of this source repository only."
    ),
]
Request = Annotated[str, typer.Option("--request", metavar="ID", help="Select the jobs of this request.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job records as JSON.")]
_ID_DIGITS = 18


@app.command("list")
def list_jobs(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    repository: Annotated[
        str, typer.Argument(metavar="[ORG/REPO]", help="The source repository; without it, all that you may read.")
    ] = "",
    request: Request = "",
    status: Annotated[
        str, typer.Option("--status", "--state", metavar="STATUS,…", help="Filter by status, e.g. failed,timeout.")
    ] = "",
    organization: Annotated[str, typer.Option("--org", metavar="ORG", help="Filter by source organization.")] = "",
    to: Annotated[str, typer.Option(metavar="REGION[/ORG]", help="Filter by target.")] = "",
    by: Annotated[str, typer.Option(metavar="USER", help="Filter by the user who requested the jobs.")] = "",
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only jobs requested from this time on, e.g. 30m, 7d or 2024-05-06T07:08."),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")] = 50,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """List the newest sync jobs of a repository, or of all repositories that you may read.

    Example: tagferry job list --status failed,timeout --since 24h
    """
    if request and not repository:
        raise Invalid("--request", "needs ORG/REPO, the source repository of the request")
    if repository and organization:
        raise Invalid("--org", "and ORG/REPO cannot be combined")
    if request and (to or by or since):
        raise Invalid("--request", "cannot be combined with --to, --by and --since")
    region, target = parse_target(to, field="--to") if to else ("", "")
    terms = {
        "status": status,
        "remote_region": region,
        "remote_namespace": target,
        "operator": by,
        "since": parse_time("--since", since),
        "namespace": organization,
    }

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            if repository and not (to or by or since):
                return await client.list_jobs(
                    *parse_repository(repository), limit=limit, status=status, request=request
                )
            if repository:
                terms["namespace"], terms["repository"] = parse_repository(repository)
            return await client.list_all_jobs(limit=limit, **terms)

    jobs = run(work())
    if as_json:
        out.print_json(json.dumps(jobs))
    else:
        out.print(_table(jobs, with_image=not repository))


@app.command()
def show(
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The id of the job.")],
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a sync job of any repository that you may read, with its timeline."""

    async def work() -> dict[str, Any]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.show_job(job_id)

    job = run(work())
    if as_json:
        write_json(job)
    else:
        write_job(sys.stdout, job)


@app.command()
def cancel(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    selected: Selected = None,
    request: Request = "",
    ca_file: CaFile = None,
) -> None:
    """Cancel sync jobs that have not ended, also for other requests that wait for them.

    With ids alone, the jobs may be of any repositories, and the exit code is 1 if one was not cancelled.

    Examples: tagferry job cancel 17 18; tagferry job cancel team/web --request ID
    """
    repository, ids = _split(selected)

    async def of_repository(client: ManagementClient) -> bool:
        cancelled = await client.cancel_jobs(*parse_repository(repository), _selection(ids, request))
        for job_id in cancelled:
            out.print(f"{job_id} cancelled")
        for job_id in sorted(set(ids) - set(cancelled)):
            out.print(f"{job_id} not cancelled: it has ended, or is not a job of {repository}", markup=False)
        if not cancelled and request:
            out.print("no job of this request is waiting or running")
        return True

    async def of_all(client: ManagementClient) -> bool:
        _, results = await client.act_on_jobs("cancel", _ids_alone(ids, request))
        for one in results:
            outcome = "cancelled" if one["cancelled"] else f"not cancelled: {one['reason']}"
            out.print(f"{one['id']} {outcome}", markup=False)
        return all(one["cancelled"] for one in results)

    async def work() -> bool:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await (of_repository(client) if repository else of_all(client))

    if not run(work()):
        raise SystemExit(1)


@app.command()
def retry(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    selected: Selected = None,
    request: Request = "",
    override: Annotated[
        bool, typer.Option("--override", help="With ids alone: also jobs that found another image; replace it.")
    ] = False,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Retry jobs that failed, timed out, were cancelled or wait for their next attempt.

    With ORG/REPO, follow them, and exit with code 1 if a tag is not copied. With ids alone, the jobs may be of any
    repositories; the command does not wait for them, and exits with code 1 if one could not be retried.

    Examples: tagferry job retry 17 18; tagferry job retry team/web --request ID
    """
    repository, ids = _split(selected)
    if not repository:
        return _retry_any(
            ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file),
            {**_ids_alone(ids, request), "override": override},
            as_json=as_json,
        )
    if override:
        raise Invalid("--override", "needs ids alone, without ORG/REPO")
    wanted = _selection(ids, request)
    followed: list[Followed] = []

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            started = await client.retry_jobs(*parse_repository(repository), wanted)
            if started.tags:
                followed.append(Followed(*parse_repository(repository), started.tags, started.request_id))
            return await follow(client, followed, on=display_on(sys.stderr))

    return report_outcome(run_interruptible(work(), followed), as_json=as_json)


def _retry_any(client: ManagementClient, body: dict[str, Any], *, as_json: bool) -> None:
    async def work() -> list[dict[str, Any]]:
        async with client:
            return (await client.act_on_jobs("retry", body))[1]

    results = run(work())
    if as_json:
        write_json(results)
    for one in () if as_json else results:
        outcome = f"retried as job {one['job']}" if one["retried"] else f"not retried: {one['reason']}"
        out.print(f"{one['id']} {outcome}", markup=False)
    if not all(one["retried"] for one in results):
        raise SystemExit(1)


def _split(selected: list[str] | None) -> tuple[str, list[int]]:
    """Return the repository, "" without one, and the ids."""
    words = list(selected or ())
    repository = words.pop(0) if words and not words[0].isdigit() else ""
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= _ID_DIGITS):
            raise Invalid("ID", "must be the number of a job", word)
    if repository:
        parse_repository(repository)
    return repository, [int(word) for word in words]


def _ids_alone(ids: list[int], request: str) -> dict[str, Any]:
    if request:
        raise Invalid("--request", "needs ORG/REPO, the source repository of the request")
    return _selection(ids, "")


def _selection(ids: list[int], request: str) -> dict[str, Any]:
    if bool(ids) == bool(request):
        raise Invalid("ID", "or --request is required, but not both; list both with: tagferry job list --json")
    return {"requestId": request} if request else {"jobs": ids}


def _table(jobs: list[dict[str, Any]], *, with_image: bool) -> Table:
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
