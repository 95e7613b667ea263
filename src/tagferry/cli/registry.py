"""`tagferry registry`: verify and repair the content of embedded registries."""

from typing import Annotated, NamedTuple

import typer

from tagferry import logs
from tagferry.app import open_accounts, open_regions
from tagferry.cache.blob_locations import DatabaseBlobLocations
from tagferry.cli.event_loop import run
from tagferry.cli.exit_codes import FAILED
from tagferry.cli.lines import write_json
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.errors import Invalid, NotFound, TagferryError
from tagferry.registry.storage.integrity import Damage
from tagferry.registry.storage.store import DiskStore
from tagferry.scrubbing import Restorer, verify
from tagferry.settings import Settings

app = typer.Typer(add_completion=False, help="Verify and repair embedded registries.", no_args_is_help=True)

_RATE = 64 * 1024 * 1024


class VerifyResult(NamedTuple):
    """The result of verifying a region's registry.

    Attributes:
        damages: the source that each damaged item was restored from, or None.
        failure: why the verification is incomplete.
    """

    region: str
    files: int
    bytes: int
    damages: dict[Damage, str | None]
    failure: str | None = None

    @property
    def remaining(self) -> int:
        """The number of items that are still damaged."""
        return sum(source is None for source in self.damages.values())


@app.callback()
def registry() -> None:
    """Verify and repair embedded registries."""


@app.command("verify")
def verify_all(
    regions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REGION]...", help="The regions to verify; by default all embedded ones."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Restore damaged content from other regions.")] = False,
    bytes_per_second: Annotated[int, typer.Option(min=1, help="Maximum read rate.")] = _RATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Verify all stored content, also while it is served. Exits with code 1 if damaged content remains.

    Damaged content is marked and no longer served. --repair restores it from a region that has it: from the repository
    of the same name, or from one where a sync has seen it.
    """
    settings = Settings.load(config)
    logs.configure(style=settings.log_format, level=settings.log_level)
    results = run(_verify(settings, regions or [], bytes_per_second, repair=repair))
    if as_json:
        write_json([_document(result) for result in results])
    else:
        for result in results:
            _show(result)
    if any(result.remaining or result.failure is not None for result in results):
        raise typer.Exit(FAILED)


async def _verify(settings: Settings, names: list[str], rate: int, *, repair: bool) -> list[VerifyResult]:
    for name in names:
        if name not in settings.regions:
            raise NotFound("region", name, f"the configuration has {', '.join(settings.regions)}")
        if not settings.regions[name].is_embedded:
            raise Invalid("REGION", "must have an embedded registry", name)
    results = []
    async with open_accounts(settings) as accounts, open_regions(settings) as regions:
        restorer = Restorer(regions, DatabaseBlobLocations(accounts.database)) if repair else None
        for region in regions:
            if not isinstance(region.store, DiskStore) or (names and region.id not in names):
                continue
            scrub = region.store.repair.scrub(bytes_per_second=rate)
            try:
                damages = await verify(region, scrub, restorer)
            except TagferryError as error:
                # Continue with the other regions.
                results.append(VerifyResult(region.id, scrub.files_read, scrub.bytes_read, {}, error.message))
            else:
                results.append(VerifyResult(region.id, scrub.files_read, scrub.bytes_read, damages))
            finally:
                scrub.close()
    return results


def _show(result: VerifyResult) -> None:
    for damage, source in result.damages.items():
        where = f" of {damage.repository}" if damage.repository else ""
        outcome = f"restored from {source}" if source else "damaged; push the image again, or synchronize it"
        out.print(f"{result.region}  {damage.kind} {damage.name}{where}: {outcome}", soft_wrap=True, markup=False)
    restored = len(result.damages) - result.remaining
    summary = f"{result.files} files, {result.bytes} bytes read; {result.remaining} damaged, {restored} restored"
    if result.failure is not None:
        summary += f"; incomplete: {result.failure}"
    out.print(f"{result.region}  {summary}", soft_wrap=True, markup=False)


def _document(result: VerifyResult) -> dict[str, object]:
    damages = [damage._asdict() | {"restored_from": source} for damage, source in result.damages.items()]
    document = {"region": result.region, "files": result.files, "bytes": result.bytes, "damaged": damages}
    return document | ({} if result.failure is None else {"failure": result.failure})
