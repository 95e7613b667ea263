"""`tagferry region`: the regions of a configuration, and whether their registries can be reached."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.app import open_accounts, open_regions
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run
from tagferry.errors import NotFound, TagferryError
from tagferry.oci.images import ImageStore
from tagferry.remote import Capabilities, Learned, RemoteStore
from tagferry.settings import Settings
from tagferry.sync.capabilities import KeptCapabilities

app = typer.Typer(help="Regions.", no_args_is_help=True)

_FACTS = {
    "lists_referrers": "lists referrers",
    "mounts_from_itself": "mounts a blob from its own repository",
    "refuses_wrong_bytes": "refuses bytes that do not have their digest",
    "whole_limit": "refused a whole blob of this many bytes",
    "part_limit": "takes parts of a blob up to this many bytes",
    "shortest_part": "takes parts of a blob from this many bytes on",
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
            keeper = KeptCapabilities(accounts.database, settings.regions[region].url)
            return await Learned(keeper).known()

    known = run(work()).to_json()
    table = Table(show_header=False, box=None)
    for name, meaning in _FACTS.items():
        table.add_row(meaning, escape(_shown(known.get(name))))
    out.print(table)


@app.command()
def check(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Ask every region's registry whether it is there and lets tagferry in; exit code 1 if one does not."""

    async def work() -> bool:
        fine = True
        async with open_regions(Settings.load(config)) as regions:
            for region in regions:
                error = await _ask(region.store)
                fine = fine and error is None
                out.print(f"{region.id}  {region.url}  {error or 'ok'}", soft_wrap=True, markup=False)
        return fine

    if not run(work()):
        raise typer.Exit(1)


async def _ask(store: ImageStore) -> str | None:
    if not isinstance(store, RemoteStore):
        return None
    try:
        await store.ping()
    except TagferryError as error:
        return error.message
    return None


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
