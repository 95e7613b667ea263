"""`tagferry copy`: copy images between registries, OCI layouts and archives, without a server."""

from collections.abc import Sequence
from functools import partial

from tagferry.cli.arguments import Parser, Switch, number

_TEXT = (
    "Copy images between registries, OCI layouts and archives, without a server. An image is HOST/REPOSITORY[:TAG], an "
    "OCI layout oci:DIRECTORY[:TAG] or an archive FILE.tar[:TAG]. A TARGET without a tag gets the tag of SOURCE. "
    "Repeat an interrupted copy to continue it."
)
_EXAMPLE = "Example: tagferry copy alpine:3.20 registry.example.com/base/alpine"


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    options = parser().parse(arguments)
    # The parser alone answers --help. Connections begin before the modules of the copy are loaded.
    from tagferry import open_files
    from tagferry.direct.early_start import start_early

    open_files.raise_limit()
    early_start = start_early(
        options.images if options.list is None else [],
        plain_http=options.plain_http,
        several_tags=bool(options.all_tags or options.tags or options.exclude_tags),
        jobs=options.jobs,
    )
    from tagferry.cli.copy_process import copy

    return copy(options, early_start)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    made = Parser("copy", description=_TEXT, usage="SOURCE TARGET", epilog=_EXAMPLE)
    add = made.add_argument
    add("images", nargs="*", metavar="SOURCE TARGET", help="The images, or with --all-tags or --tags the repositories.")
    add("-a", "--all-tags", action="store_true", help="Copy all tags of the repository.")
    add("--tags", action="append", default=[], metavar="REGEX", help="Copy the tags that match. Repeatable.")
    add(
        "--exclude-tags",
        action="append",
        default=[],
        metavar="REGEX",
        help="Leave out tags that match; alone, copy all others. Repeatable.",
    )
    add(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="Copy only the images of this platform; an image without it is an error. Repeatable.",
    )
    add(
        "--override",
        action=Switch,
        default=True,
        help="Replace different images with the same tag, or keep them.",
    )
    add("--referrers", action=Switch, default=True, help="Copy signatures and other referrers, too.")
    add("--dry-run", action="store_true", help="Show what would be copied, and change nothing.")
    add("--exit-code", action="store_true", help="With --dry-run: exit with 10 if something would be copied.")
    add(
        "--from",
        dest="list",
        metavar="FILE",
        help="Copy the images of a list: lines of SOURCE TARGET, or the YAML of regsync or skopeo sync; - for stdin.",
    )
    add(
        "-j", "--jobs", type=partial(number, lowest=1, highest=256), default=32, metavar="N",
        help="Maximum number of tags, and of blobs, copied at once (32).",
    )  # fmt: skip
    add("--bandwidth", metavar="RATE", help="Limit in bytes per second for all copies, e.g. 20MB.")
    add("--plain-http", action="append", default=[], metavar="HOST", help="A registry without TLS. Repeatable.")
    add(
        "--insecure",
        action="append",
        default=[],
        metavar="HOST",
        help="A registry whose certificate is not verified. Repeatable.",
    )
    add("--ca-file", metavar="FILE", help="PEM file with certificate authorities to trust as well.")
    add(
        "--certs-dir",
        metavar="DIR",
        help="Directory with DIR/HOST/{*.crt,*.cert,*.key}; by default certs.d of docker and podman.",
    )
    add("--docker-config", metavar="FILE", help="Credentials file; by default those of docker, podman and skopeo.")
    add("--json", action="store_true", help="Print the results as JSON.")
    return made
