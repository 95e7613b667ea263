"""`tagferry audit`: list who did what."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, out
from tagferry.cli.times import parse_time, show_time
from tagferry.cli.usage import LIST_ORGANIZATIONS, LIST_USERS, naming, require_choice
from tagferry.names import Namespace, RepositoryName
from tagferry.printable import printable

app = typer.Typer(add_completion=False, help="List who did what. Only administrators may.", no_args_is_help=True)

_METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET", "HEAD")
_FIELDS = {
    name: f"--{name}" for name in ("user", "organization", "repository", "method", "operation", "since", "until")
}
"""The options that a server calls by other names."""
_HINTS = {"user": LIST_USERS, **dict.fromkeys(("organization", "repository"), LIST_ORGANIZATIONS)}


@app.callback()
def audit() -> None:
    """List who did what. Only administrators may."""


@app.command("list")
def list_records(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    user: Annotated[str, typer.Option(metavar="USER", help="Filter by the user who sent the request.")] = "",
    organization: Annotated[str, typer.Option(metavar="ORG", help="Filter by organization.")] = "",
    repository: Annotated[str, typer.Option(metavar="ORG/REPO", help="Filter by repository.")] = "",
    method: Annotated[str, typer.Option(metavar="METHOD", help="Filter by method, e.g. DELETE.")] = "",
    operation: Annotated[
        str, typer.Option(metavar="WORDS", help='Filter by operation, e.g. "synchronize images".')
    ] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only requests that were refused (401, 403).")] = False,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only requests from this time on, e.g. 2h, 7d or 2024-05-06T07:08.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Only requests before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of records.")] = 50,
    ca_file: CaFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """List the newest requests that may have changed something, and those that were refused."""
    if method:
        require_choice("--method", method.upper(), _METHODS)
    terms = {
        "user": user,
        "organization": Namespace(organization, field="--organization") if organization else "",
        "repository": RepositoryName(repository, field="--repository") if repository else "",
        "method": method,
        "operation": operation,
        "refused": "true" if refused else "",
        "since": parse_time("--since", since),
        "until": parse_time("--until", until),
    }

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.list_audit_records(limit=limit, **terms)

    with naming(_FIELDS, _HINTS):
        records = run(work())
    if as_json:
        write_json(records)
    else:
        out.print(_table(records) if records else "no audit record matches")


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table("time", "user", "operation", "on", "result", "from", box=None)
    for record in records:
        times = f", {record['times']} times" if record["times"] > 1 else ""
        color = "red" if record["status"] >= 400 else "green"
        table.add_row(
            show_time(record["occurredAt"]),
            _text(record["user"] or "anonymous"),
            _text(record["operation"] or record["method"]),
            _text(_object(record)),
            Text(f"{record['status']}{times}", style=color),
            _text(f"{record['address'] or 'several addresses'}  {record['region']}"),
        )
    return table


def _object(record: dict[str, Any]) -> str:
    """Return what a request is about; its path if nothing else is known."""
    subject = record["repository"] or record["organization"] or record["subjectUser"]
    shown = " ".join(filter(None, (subject, record["subjectKey"])))
    return shown or str(record["path"])


def _text(value: str) -> Text:
    return Text(printable(value))
