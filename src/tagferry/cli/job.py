"""`tagferry job`: list, show, wait for, cancel and retry sync jobs."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tagferry.cli import exit_codes
from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.follow import Followed, display_on, follow
from tagferry.cli.job_details import write_job
from tagferry.cli.job_selection import Selection
from tagferry.cli.job_table import job_table
from tagferry.cli.job_wait import wait_for
from tagferry.cli.lines import write_json
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, out
from tagferry.cli.references import parse_repository, parse_target
from tagferry.cli.times import parse_seconds, parse_time
from tagferry.cli.usage import (
    LIST_ORGANIZATIONS,
    LIST_REGIONS,
    LIST_REQUESTS,
    LIST_USERS,
    naming,
    require_choice,
)
from tagferry.cli.watch import report_outcome, run_interruptible
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, Repository

app = typer.Typer(
    add_completion=False,
    help="List, show, wait for, cancel and retry sync jobs. Each job copies one tag.",
    no_args_is_help=True,
)

Selected = Annotated[
    list[str] | None,
    typer.Argument(metavar="ORG/REPO|ID", help="Jobs by id, of any repositories, or of this source repository only."),
]
Request = Annotated[str, typer.Option("--request", metavar="ID", help="Select the jobs of this request.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job records as JSON.")]
Override = Annotated[
    bool, typer.Option("--override", help="Also retry jobs that found another image; replace that image.")
]
STATUSES = ("waiting", "running", "success", "failed", "timeout", "cancel", "existed")
_FIELDS = {
    "status": "--status",
    "remote_region": "--to",
    "remote_namespace": "--to",
    "operator": "--by",
    "since": "--since",
    "namespace": "--org",
    "request": "--request",
    "requestId": "--request",
    "jobs": "ID",
}
"""The options and arguments that a server calls by other names."""
_HINTS = {
    "remote_region": LIST_REGIONS,
    "operator": LIST_USERS,
    **dict.fromkeys(("namespace", "remote_namespace"), LIST_ORGANIZATIONS),
}


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
    if repository and organization:
        raise Invalid("--org", "cannot be combined with ORG/REPO")
    statuses = [word.strip() for word in status.split(",")] if status else []
    for word in statuses:
        require_choice("--status", word, STATUSES, rule="must be one or more of")
    region, target = parse_target(to, field="--to") if to else ("", "")
    terms = {
        "status": ",".join(statuses),
        "request": request,
        "remote_region": region,
        "remote_namespace": target,
        "operator": by,
        "since": parse_time("--since", since),
        "namespace": Namespace(organization, field="--org") if organization else "",
    }

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            if repository:
                terms["namespace"], terms["repository"] = name = parse_repository(repository)
            if repository and not any((request, to, by, since)):
                # Refuses a repository that you may not read.
                jobs = await client.list_jobs(*name, limit=limit, status=terms["status"])
            else:
                jobs = await client.list_all_jobs(limit=limit, **terms)
            if not jobs:
                await _require_known(client, terms)
            return jobs

    with naming(_FIELDS, _HINTS):
        jobs = run(work())
    if as_json:
        write_json(jobs)
    else:
        out.print(job_table(jobs, with_image=not repository))


async def _require_known(client: ManagementClient, terms: Mapping[str, str]) -> None:
    """Raise an error if a filter that no job matches names a request or a repository that does not exist.

    The server has refused other unknown names.
    """
    if (request := terms["request"]) and not await client.list_all_jobs(limit=1, request=request):
        raise NotFound("request", request, LIST_REQUESTS)
    if repository := terms.get("repository"):
        name = Namespace(terms["namespace"]), Repository(repository)
        # Its jobs may be those of another region.
        if not await client.list_all_jobs(limit=1, namespace=name[0], repository=name[1]):
            await client.require_repository(*name)


@app.command()
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the job.")],
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a sync job of any repository that you may read, with its timeline."""
    selection = Selection.parse([job_id])

    async def work() -> dict[str, Any]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.show_job(selection.only_id())

    job = run(work())
    if as_json:
        write_json(job)
    else:
        write_job(sys.stdout, job)


@app.command()
def wait(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    selected: Selected = None,
    request: Request = "",
    timeout: Annotated[
        str, typer.Option(metavar="SECONDS", help="Stop waiting after this time; the jobs continue.")
    ] = "",
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Wait until sync jobs have ended, and show their progress.

    The exit code is that of a sync: 0 if all succeeded, 3 if one failed, 4 if the targets have other images, 5 if the
    jobs timed out, or this command did.

    Examples: tagferry job wait 17 18 --timeout 600; tagferry job wait team/web --request ID
    """
    selection = Selection.parse(selected, request)
    seconds = parse_seconds("--timeout", timeout) if timeout else None
    client = ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file)
    with naming(_FIELDS):
        raise typer.Exit(wait_for(client, selection, timeout=seconds, as_json=as_json))


@app.command()
def cancel(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    selected: Selected = None,
    request: Request = "",
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel sync jobs that have not ended, also for other requests that wait for them.

    The exit code is 1 if one of the jobs was not cancelled, or none.

    Examples: tagferry job cancel 17 18; tagferry job cancel team/web --request ID
    """
    selection = Selection.parse(selected, request)

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            if selection.name is not None and request:
                cancelled = await client.cancel_jobs(*selection.name, {"requestId": request})
                return [{"id": job_id, "cancelled": True, "reason": ""} for job_id in cancelled]
            return await selection.act(client, "cancel")

    with naming(_FIELDS):
        results = run(work())
    if as_json:
        write_json(results)
    elif not results:
        out.print("no job of this request is waiting or running")
    for one in () if as_json else results:
        outcome = "cancelled" if one["cancelled"] else f"not cancelled: {one['reason']}"
        out.print(f"{one['id']} {outcome}", markup=False)
    if not results or not all(one["cancelled"] for one in results):
        raise typer.Exit(exit_codes.FAILED)


@app.command()
def retry(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    selected: Selected = None,
    request: Request = "",
    override: Override = False,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Retry jobs that failed, timed out, were cancelled or wait for their next attempt.

    With ORG/REPO, follow them, with the exit codes of a sync. With ids alone, the jobs may be of any repositories, and
    the command does not wait for them. The exit code is 1 if one could not be retried.

    Examples: tagferry job retry 17 18; tagferry job retry team/web --request ID
    """
    selection = Selection.parse(selected, request)
    if request and override:
        raise Invalid("--override", "needs the ids of jobs")
    client = ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file)
    followed: list[Followed] = []
    refused: list[dict[str, Any]] = []

    async def work() -> list[dict[str, Any]]:
        async with client:
            if selection.name is not None and request:
                started = await client.retry_jobs(*selection.name, {"requestId": request})
                tags, request_id = started.tags, started.request_id
            else:
                results = await selection.act(client, "retry", override=override)
                if selection.name is None:
                    return results
                refused.extend(one for one in results if not one["retried"])
                tags, request_id = {one["job"]: "" for one in results if one.get("job")}, selection.request_id
            if tags and selection.name is not None:
                followed.append(Followed(*selection.name, tags, request_id))
            return await follow(client, followed, on=display_on(sys.stderr))

    with naming(_FIELDS):
        jobs = run_interruptible(work(), followed)
    if selection.name is None:
        raise typer.Exit(_report_retried(jobs, as_json=as_json))
    codes = [report_outcome(jobs, as_json=as_json, failed=len(refused))]
    for one in refused:
        sys.stderr.write(f"{one['id']} not retried: {one['reason']}\n")
    if refused or not jobs:
        codes.append(exit_codes.FAILED)
    raise typer.Exit(exit_codes.combined(codes))


def _report_retried(results: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        write_json(results)
    for one in () if as_json else results:
        outcome = f"retried as job {one['job']}" if one["retried"] else f"not retried: {one['reason']}"
        out.print(f"{one['id']} {outcome}", markup=False)
    all_retried = bool(results) and all(one["retried"] for one in results)
    return exit_codes.OK if all_retried else exit_codes.FAILED
