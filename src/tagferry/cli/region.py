"""`tagferry region`: show the configured regions, and check their registries."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.app import open_accounts
from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.cli.event_loop import run
from tagferry.cli.exit_codes import FAILED, combined
from tagferry.cli.lines import write_json
from tagferry.cli.options import DEFAULT_CONFIG, AccessKey, CaFile, ConfigFile, Endpoint, SecretKey, err, out
from tagferry.cli.region_check import check_regions, parse_image
from tagferry.cli.region_health import health_rows, health_table
from tagferry.cli.running_regions import running_regions
from tagferry.cli.site import Site, on_server
from tagferry.cli.times import show_time
from tagferry.cli.usage import naming
from tagferry.errors import Invalid, NotFound
from tagferry.health.model import RegionHealth
from tagferry.health.records import HealthRecords
from tagferry.names import RegionId
from tagferry.remote import LearnedCapabilities
from tagferry.settings import Settings
from tagferry.settings.rules import EMBEDDED

app = typer.Typer(
    add_completion=False, help="Show the configured regions, and check their registries.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
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
@on_server
def list_all(site: Site, as_json: AsJson = False) -> None:
    """List the regions as the running processes know them.

    They come from the database that the configuration names, or with an endpoint and an access key from a server, which
    also reports their health. If no process runs, they come from the configuration file.
    """
    if site.is_remote:
        regions = run(_list(site))
        return write_json(regions) if as_json else out.print(health_table(regions))
    found = run(running_regions(Settings.load(site.config)))
    for note in found.notes:
        err.print(note, soft_wrap=True, markup=False)
    if as_json:
        return write_json(
            [
                {
                    "regionID": one["id"],
                    "listen": one["listen"],
                    "registry": one["registry"],
                    "organizations": one["organizations"],
                }
                for one in found.regions
            ]
        )
    table = Table("region", "served on", "registry", "organizations", box=None)
    for one in found.regions:
        table.add_row(one["id"], escape(one["listen"] or ""), escape(one["registry"]), one["organizations"])
    return out.print(table)


@app.command()
@on_server
def show(
    site: Site,
    region: Annotated[str, typer.Argument(metavar="REGION", help="The region's id.")],
    check_now: Annotated[
        bool, typer.Option("--check", help="Let the server check the registry now; for administrators.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a region's health and the observed capabilities of its registry, unless that is embedded.

    They come from the database, or with an endpoint and an access key from a server, which shows capabilities to
    administrators. Capabilities are observed during copies, and expire after a day.
    """
    if check_now and not site.is_remote:
        raise Invalid("--check", "requires --endpoint, --ak and --sk; without a server, use: tagferry region check")

    async def work() -> dict[str, Any]:
        if site.is_remote:
            async with site.client() as client:
                return await client.show_region(region, check=check_now)
        settings = Settings.load(site.config)
        known = {one["id"]: one for one in (await running_regions(settings)).regions}
        if region not in known:
            raise NotFound("region", region, f"the known regions are {', '.join(known)}")
        async with open_accounts(settings) as accounts:
            health = (await HealthRecords(accounts.database).load()).get(RegionId(region))
            url, is_embedded = known[region]["url"], known[region]["registry"] == EMBEDDED
            details = {"regionID": region, "url": url, "embedded": is_embedded, "health": _recorded(health)}
            if not is_embedded:
                learned = LearnedCapabilities(DatabaseCapabilities(accounts.database, url))
                details["capabilities"] = (await learned.known()).to_json()
        return details

    with naming({"region": "REGION", "region_id": "REGION"}):
        details = run(work())
    if as_json:
        return write_json(details)
    table = Table(show_header=False, box=None)
    for meaning, value in health_rows(details):
        table.add_row(meaning, value)
    # Nothing has to be learned about an embedded registry, and a server shows this to administrators only.
    if (capabilities := details.get("capabilities")) is not None:
        for name, meaning in _FACTS.items():
            table.add_row(meaning, escape(_shown(capabilities.get(name))))
    return out.print(table)


async def _list(site: Site) -> list[dict[str, Any]]:
    async with site.client() as client:
        return await client.list_regions()


def _recorded(health: RegionHealth | None) -> dict[str, Any] | None:
    """Return recorded health with the fields of the API."""
    if health is None:
        return None
    return {
        "state": health.state.value,
        "reason": health.reason,
        "since": health.since.isoformat(),
        "checkedAt": health.checked_at.isoformat(),
        "latencySeconds": health.latency,
        "averageLatencySeconds": health.smoothed_latency,
        "certificateExpiresAt": _iso(health.certificate_expires_at),
        "throttledUntil": _iso(health.throttled_until),
        "diskFreeBytes": health.disk_free,
        "diskTotalBytes": health.disk_total,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@app.command()
def paused(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """List the regions that a server has paused because their registries do not answer. Their jobs wait."""
    listed = run(_list(Site(DEFAULT_CONFIG, endpoint, access_key, secret_key, ca_file)))
    regions = [region for region in listed if region.get("pausedSince")]
    if as_json:
        return write_json(regions)
    table = Table("region", "paused since", box=None)
    for region in regions:
        table.add_row(escape(str(region["regionID"])), show_time(region["pausedSince"]))
    return out.print(table if regions else "no region is paused")


@app.command()
def check(
    regions: Annotated[
        list[str] | None, typer.Argument(metavar="[REGION]...", help="The regions to check; by default all.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="ORG/REPO[:TAG]", help="The repository to read; it must exist.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Authenticate to the registries and read what a sync reads.

    By default, the check reads a repository that a sync has used, or one in the registry's catalog. It does not push.
    """
    wanted = parse_image(repository) if repository is not None else None
    results = run(check_regions(Settings.load(config), regions or (), wanted))
    if as_json:
        write_json([result.to_json() for result in results])
    for result in () if as_json else results:
        out.print(f"{result.region}  {result.url}  {result.summary}", soft_wrap=True, markup=False)
    raise typer.Exit(combined([result.exit_code for result in results], mixed=FAILED))


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
