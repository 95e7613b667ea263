"""`tagferry copy`: copy images between registries, OCI layouts and archives, without a server."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tagferry.cli.copy_display import CopyDisplay
from tagferry.cli.copy_process import run_copies
from tagferry.direct.lists import parse_list
from tagferry.direct.platforms import parse_platform
from tagferry.direct.references import parse_image
from tagferry.direct.results import USAGE, exit_code
from tagferry.direct.runner import CopyOptions
from tagferry.direct.sizes import parse_rate
from tagferry.direct.stores import RegistryAccess
from tagferry.direct.tasks import CopyList, CopyTask, TagPattern, TagSelection
from tagferry.errors import Invalid

app = typer.Typer()


@app.command()
def copy(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE TARGET",
            help="HOST/REPOSITORY[:TAG], an OCI layout oci:DIRECTORY[:TAG], or an archive FILE.tar[:TAG].",
        ),
    ] = None,
    all_tags: Annotated[bool, typer.Option("--all-tags", "-a", help="Copy all tags of the repository.")] = False,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", metavar="REGEX", help="Copy the tags that match. Repeatable.")
    ] = None,
    exclude_tags: Annotated[
        list[str] | None, typer.Option("--exclude-tags", metavar="REGEX", help="Leave out tags that match. Repeatable.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(metavar="OS/ARCH", help="Copy only the images of this platform. Repeatable."),
    ] = None,
    override: Annotated[bool, typer.Option(help="Replace different images with the same tag.")] = True,
    referrers: Annotated[bool, typer.Option(help="Copy signatures and other referrers, too.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied, and change nothing.")] = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Copy what a list says: lines of SOURCE TARGET, or the YAML of regsync or skopeo sync; - for stdin.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="Tags and blobs copied at once.")] = 32,
    bandwidth: Annotated[
        str, typer.Option(metavar="RATE", help="Limit in bytes per second for all copies, e.g. 20MB.")
    ] = "",
    plain_http: Annotated[
        list[str] | None, typer.Option(metavar="HOST[:PORT]", help="A registry without TLS. Repeatable.")
    ] = None,
    insecure: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="A registry whose certificate is not verified. Repeatable."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file with certificate authorities to trust in addition to the system's.")
    ] = None,
    docker_config: Annotated[
        Path | None,
        typer.Option(help="Credentials file of docker or podman. By default the files that skopeo uses are read."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Copy images between registries, OCI layouts and archives, without a server.

    Repeat an interrupted copy to continue it. Exit codes: 0 all is at the target, 2 wrong usage, 3 a tag was not
    copied, 4 --no-override kept another image, 6 a registry cannot be reached, 7 a registry denied access.
    """
    display = CopyDisplay(as_json=as_json)
    try:
        selection = TagSelection(patterns=_patterns(tags, "--tags"), excluded=_patterns(exclude_tags, "--exclude-tags"))
        wanted = _wanted(images or [], from_file, selection if all_tags or tags or exclude_tags else None)
        platforms = tuple(parse_platform(one) for one in platform or ())
        tasks = [
            CopyTask(
                one.source,
                one.target,
                one.selection,
                platforms=platforms or one.platforms,
                referrers=referrers and one.referrers,
            )
            for one in wanted.tasks
        ]
        access = RegistryAccess(
            plain_http=wanted.plain_http | frozenset(plain_http or ()),
            insecure=wanted.insecure | frozenset(insecure or ()),
            ca_file=ca_file,
            docker_config=docker_config,
            credentials=wanted.credentials,
        )
        options = CopyOptions(
            override=override,
            dry_run=dry_run,
            jobs=jobs,
            bytes_per_second=parse_rate(bandwidth, field="--bandwidth") if bandwidth else None,
        )
        display.ignored(wanted.ignored)
        results = run_copies(tasks, access, options, display)
    except Invalid as error:
        display.error(error.message)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(json.dumps([result.to_json() for result in results], indent=2))
    display.summary(results)
    raise typer.Exit(exit_code(results))


def _wanted(images: list[str], from_file: Path | None, selection: TagSelection | None) -> CopyList:
    """Return the copies that the arguments or the list ask for."""
    if from_file is not None:
        if len(images) > 1:
            raise Invalid("SOURCE", "must be omitted with --from", images[0])
        listed = parse_list(_read(from_file), name=str(from_file), target=images[0] if images else None)
        if selection is None:
            return listed
        return CopyList(
            tuple(CopyTask(one.source, one.target, selection) for one in listed.tasks),
            plain_http=listed.plain_http,
            insecure=listed.insecure,
            credentials=listed.credentials,
            ignored=listed.ignored,
        )
    if len(images) != 2:
        raise Invalid("tagferry copy", "needs a SOURCE and a TARGET, or --from FILE")
    source, target = parse_image(images[0], field="SOURCE"), parse_image(images[1], field="TARGET")
    return CopyList((CopyTask(source, target, selection),))


def _read(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid("--from", f"must name a readable list ({reason})", str(path)) from None


def _patterns(texts: list[str] | None, field: str) -> tuple[TagPattern, ...]:
    if not texts:
        return ()
    from tagferry.patterns import Pattern

    return tuple(Pattern(text, field=field) for text in texts)
