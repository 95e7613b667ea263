"""`tagferry tags`: list the tags of a repository, and compare them with its copies."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.exit_codes import FAILED, TAG_FAILED
from tagferry.cli.lines import write_json
from tagferry.cli.options import AccessKey, CaFile, Endpoint, SecretKey, err, out
from tagferry.cli.references import parse_repository, parse_target
from tagferry.cli.times import show_time
from tagferry.cli.usage import naming
from tagferry.errors import Invalid
from tagferry.names import Namespace, Repository

app = typer.Typer(add_completion=False)

_FIELDS = {"to": "--to", "tag": "--tag", "namespace": "ORG", "repository": "REPO"}
"""The options and arguments that a server calls by other names."""
_COLORS = {"same": "green", "converted": "green", "different": "yellow", "missing": "red", "unknown": "red"}
_SYMBOLS = {"same": "=", "converted": "\u2248", "different": "\u2260", "missing": "-", "extra": "+", "unknown": "?"}
_DIGEST = len("sha256:") + 12

Page = dict[str, Any]


@app.command()
def tags(
    repository: Annotated[str, typer.Argument(metavar="ORG/REPO", help="The repository.")],
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the tags with those of the copies in other regions.")
    ] = False,
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION[/ORG]", help="Compare with this region or organization only. Repeatable."),
    ] = None,
    differences: Annotated[
        bool, typer.Option("--differences", help="Show only tags that are not the same everywhere.")
    ] = False,
    part: Annotated[str, typer.Option("--tag", metavar="PART", help="Only tags with this in their name.")] = "",
    ca_file: CaFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tags as JSON.")] = False,
) -> None:
    """List the tags of a repository, or compare them with its copies.

    The copies are the repositories of the same name in other regions, and the targets of its rules and newest jobs.

    Exit codes of a comparison: 0 all copies are in sync, 3 one is behind: it lacks a tag or has another image under it,
    1 an error, or a copy could not be read completely and none of the others is behind. Tags that only a copy has do
    not count.

    Example: tagferry tags team/web --compare --to cn-north-208/release
    """
    name = parse_repository(repository)
    if not compare and (to or differences):
        raise Invalid("--to" if to else "--differences", "is for comparisons; add --compare")
    for target in to or ():
        parse_target(target, field="--to")

    async def work() -> list[Page]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            pages = _compared(client, name, to or [], part, differences) if compare else _listed(client, name, part)
            return [page async for page in pages]

    with naming(_FIELDS):
        pages = run(work())
    if not compare:
        _show_list([tag for page in pages for tag in page["tags"]], as_json=as_json)
        return
    # Each page may leave out other copies that do not exist, so rows are joined by the copies' names.
    targets = list(dict.fromkeys(_name(target) for page in pages for target in page["targets"]))
    rows = [_row(tag, page) for page in pages for tag in page["tags"]]
    if as_json:
        write_json({"source": pages[0]["source"], "targets": _targets(pages), "tags": rows})
    else:
        _show_comparison(pages, targets, rows)
    states = {cell["state"] for row in rows for cell in row["targets"].values()}
    if states & {"missing", "different"}:
        raise typer.Exit(TAG_FAILED)
    if "unknown" in states or any(target["reason"] for target in _targets(pages)) or pages[0]["source"]["reason"]:
        raise typer.Exit(FAILED)


async def _listed(client: ManagementClient, name: tuple[Namespace, Repository], part: str) -> AsyncIterator[Page]:
    marker = ""
    while True:
        page = await client.list_tags(*name, tag=part, marker=marker, limit="1000", with_manifest="false")
        yield page
        if not (marker := page.get("nextMarker") or ""):
            return


async def _compared(
    client: ManagementClient, name: tuple[Namespace, Repository], to: list[str], part: str, differences: bool
) -> AsyncIterator[Page]:
    marker = ""
    while True:
        only = "true" if differences else ""
        page = await client.compare_tags(*name, to=to, tag=part, differences=only, marker=marker, limit="1000")
        yield page
        if not (marker := page.get("nextMarker") or ""):
            return


def _name(target: Page) -> str:
    return f"{target['region']}/{target['namespace']}"


def _targets(pages: list[Page]) -> list[Page]:
    """Return the copies of all pages; one that failed on any page is shown with the reason."""
    found: dict[str, Page] = {}
    for target in (target for page in pages for target in page["targets"]):
        if _name(target) not in found or target["reason"]:
            found[_name(target)] = target
    return list(found.values())


def _row(tag: Page, page: Page) -> Page:
    cells = {_name(target): cell for target, cell in zip(page["targets"], tag["targets"], strict=True)}
    return {**tag, "targets": cells}


def _show_list(listed: list[Page], *, as_json: bool) -> None:
    if as_json:
        write_json(listed)
        return
    table = Table("tag", "digest", "size", "updated", box=None)
    for tag in listed:
        table.add_row(Text(tag["tag"]), tag["digest"][:_DIGEST], decimal(tag["size"]), show_time(tag["updated"]))
    out.print(table)


def _show_comparison(pages: list[Page], targets: list[str], rows: list[Page]) -> None:
    table = Table("tag", "digest", *targets, box=None)
    for row in rows:
        cells = [_cell(row["targets"].get(target)) for target in targets]
        table.add_row(Text(row["tag"]), (row["digest"] or "-")[:_DIGEST], *cells)
    if targets and rows:
        out.print(table)
    source = pages[0]["source"]
    reasons = {_name(one): one["reason"] for one in (source, *_targets(pages)) if one["reason"]}
    for row in rows:
        for target, cell in row["targets"].items():
            if cell["reason"]:
                reasons.setdefault(target, cell["reason"])
    for name, reason in reasons.items():
        err.print(f"{name}: {reason}", markup=False, soft_wrap=True)
    for target in targets:
        out.print(_summary(target, rows), soft_wrap=True, markup=False)
    if not targets:
        out.print("no copy of this repository is known; synchronize it with: tagferry sync", soft_wrap=True)
    if left_out := pages[0].get("targetsLeftOut"):
        err.print(f"{left_out} more copies were not compared; name them with --to", markup=False)


def _cell(cell: Page | None) -> str:
    state = cell["state"] if cell else "absent"
    color = _COLORS.get(state, "dim")
    return f"[{color}]{_SYMBOLS.get(state, ' ')} {'' if state == 'absent' else state}[/]"


def _summary(target: str, rows: list[Page]) -> str:
    states = [row["targets"][target]["state"] for row in rows if target in row["targets"]]
    counts = {state: states.count(state) for state in ("missing", "different", "unknown", "extra") if state in states}
    is_behind = bool(counts.keys() & {"missing", "different"})
    verdict = "behind" if is_behind else "unknown" if "unknown" in counts else "in sync"
    return f"{target}: {verdict}" + "".join(f", {count} {state}" for state, count in counts.items())
