"""`tagferry region`: show the configured regions, and check their registries."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.app import open_accounts
from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, AccessKey, CaFile, ConfigFile, Endpoint, SecretKey, out
from tagferry.cli.region_check import check_regions, parse_image
from tagferry.errors import NotFound
from tagferry.remote import Capabilities, LearnedCapabilities
from tagferry.settings import Settings

app = typer.Typer(help="Show the configured regions, and check their registries.", no_args_is_help=True)

_FACTS = {
    "lists_referrers": "lists referrers",
    "mounts_from_itself": "mounts a blob from its own repository",
    "refuses_wrong_bytes": "rejects content that does not match its digest",
    "whole_limit": "rejected a blob in one request, of bytes",
    "part_limit": "maximum size of an upload part, bytes",
    "shortest_part": "minimum size of an upload part, bytes",
    "requests_a_second": "limits requests per second to",
    "accepted_classes": "accepts manifests of the kinds",
    "refused_classes": "rejected manifests of the kinds",
    "unavailable": "unsupported requests",
    "learned_at": "observed at",
}


@app.command("list")
def list_all(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the configured regions with their registries."""
    table = Table("region", "served on", "registry", "organizations", box=None)
    for name, region in Settings.load(config).regions.items():
        table.add_row(name, escape(region.listen or ""), escape(region.registry), region.organizations)
    out.print(table)


@app.command()
def show(
    region: Annotated[str, typer.Argument(metavar="REGION", help="The region's id.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Show the observed capabilities of a region's registry. They are observed during copies and expire after a day."""

    async def work() -> Capabilities:
        settings = Settings.load(config)
        if region not in settings.regions:
            raise NotFound("region", region, f"the configuration has {', '.join(settings.regions)}")
        async with open_accounts(settings) as accounts:
            keeper = DatabaseCapabilities(accounts.database, settings.regions[region].url)
            return await LearnedCapabilities(keeper).known()

    known = run(work()).to_json()
    table = Table(show_header=False, box=None)
    for name, meaning in _FACTS.items():
        table.add_row(meaning, escape(_shown(known.get(name))))
    out.print(table)


@app.command()
def paused(endpoint: Endpoint, access_key: AccessKey, secret_key: SecretKey, ca_file: CaFile = None) -> None:
    """List the regions that a server has paused because their registries do not answer. Their jobs wait."""

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.list_regions()

    table = Table("region", "paused since", box=None)
    for region in run(work()):
        if since := region.get("pausedSince"):
            table.add_row(escape(str(region["regionID"])), escape(str(since)))
    out.print(table if table.row_count else "no region is paused")


@app.command()
def check(
    regions: Annotated[
        list[str] | None, typer.Argument(metavar="[REGION]...", help="The regions to check; by default all.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="ORG/REPO[:TAG]", help="The repository to read; it must exist.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Authenticate to the registries and read what a sync reads. Exits with code 1 if a check fails.

    By default, the check reads a repository that a sync has used, or one in the registry's catalog. It does not push.
    """
    wanted = parse_image(repository) if repository is not None else None
    results = run(check_regions(Settings.load(config), regions or (), wanted))
    for result in results:
        out.print(f"{result.region}  {result.url}  {result.summary}", soft_wrap=True, markup=False)
    if not all(result.is_ok for result in results):
        raise typer.Exit(1)


def _shown(fact: Any) -> str:
    match fact:
        case None:
            return "unknown"
        case bool():
            return "yes" if fact else "no"
        case list():
            return "\n".join(fact)
        case dict():
            return "\n".join(f"{question}: {reason}" for question, reason in fact.items())
    return str(fact)
