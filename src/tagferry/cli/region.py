"""`tagferry region`: the regions of a configuration, and whether their registries can be reached."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.app import open_accounts
from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.cli.client import ManagementClient
from tagferry.cli.options import DEFAULT_CONFIG, AccessKey, CaFile, ConfigFile, Endpoint, SecretKey, out, run
from tagferry.cli.region_check import check_regions, parse_image
from tagferry.errors import NotFound
from tagferry.remote import Capabilities, LearnedCapabilities
from tagferry.settings import Settings

app = typer.Typer(help="Regions.", no_args_is_help=True)

_FACTS = {
    "lists_referrers": "lists referrers",
    "mounts_from_itself": "mounts a blob from its own repository",
    "refuses_wrong_bytes": "refuses bytes that do not have their digest",
    "whole_limit": "refused a whole blob of this many bytes",
    "part_limit": "takes parts of a blob up to this many bytes",
    "shortest_part": "takes parts of a blob from this many bytes on",
    "requests_a_second": "limited requests a second to",
    "accepted_classes": "accepts manifests of the kinds",
    "refused_classes": "refused manifests of the kinds",
    "unavailable": "does not answer",
    "learned_at": "learned at",
}


@app.command("list")
def list_all(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the regions with their registries."""
    table = Table("region", "served on", "registry", "organizations", box=None)
    for name, region in Settings.load(config).regions.items():
        table.add_row(name, escape(region.listen or ""), escape(region.registry), region.organizations)
    out.print(table)


@app.command()
def show(region: Annotated[str, typer.Argument(metavar="REGION")], config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Show what is known of a region's registry: learned as images are copied, and forgotten after a day."""

    async def work() -> Capabilities:
        settings = Settings.load(config)
        if region not in settings.regions:
            raise NotFound("region", region, f"the known regions are {', '.join(settings.regions)}")
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
    """Show the regions whose synchronizations wait because they do not answer a server, which is asked for them."""

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.list_regions()

    table = Table("region", "does not answer since", box=None)
    for region in run(work()):
        if since := region.get("pausedSince"):
            table.add_row(escape(str(region["regionID"])), escape(str(since)))
    out.print(table if table.row_count else "no region is paused")


@app.command()
def check(
    regions: Annotated[
        list[str] | None, typer.Argument(metavar="[REGION]...", help="Check these regions; by default all.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="ORG/REPO[:TAG]", help="Read this repository, which must exist.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Authenticate at the registries and read what a sync reads; exit code 1 if one of them fails.

    By default it reads a repository that a sync has used, or one in the registry's catalog. It does not test pushes.
    """
    wanted = parse_image(repository) if repository is not None else None
    results = run(check_regions(Settings.load(config), regions or (), wanted))
    for result in results:
        out.print(f"{result.region}  {result.url}  {result.told}", soft_wrap=True, markup=False)
    if not all(result.is_fine for result in results):
        raise typer.Exit(1)


def _shown(fact: Any) -> str:
    match fact:
        case None:
            return "not known"
        case bool():
            return "yes" if fact else "no"
        case list():
            return "\n".join(fact)
        case dict():
            return "\n".join(f"{question}: {reason}" for question, reason in fact.items())
    return str(fact)
