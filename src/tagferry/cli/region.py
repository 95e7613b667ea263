"""`tagferry region`: the regions of a configuration, and whether their registries can be reached."""

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.app import open_regions
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run
from tagferry.errors import TagferryError
from tagferry.oci.images import ImageStore
from tagferry.remote import RemoteStore
from tagferry.settings import Settings

app = typer.Typer(help="Regions.", no_args_is_help=True)


@app.command("list")
def list_all(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the regions with their registries."""
    table = Table("region", "served on", "registry", "organizations", box=None)
    for name, region in Settings.load(config).regions.items():
        table.add_row(name, escape(region.listen or ""), escape(region.registry), region.organizations)
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
