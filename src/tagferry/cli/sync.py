"""`tagferry sync`: synchronize images through the API."""

from collections.abc import Sequence

from tagferry.cli.arguments import Parser, seconds

_TEXT = "Synchronize images to another region and follow the progress."
_EXAMPLE = "Example: tagferry sync team/web:v1 team/web:v2 --to cn-north-208/release"


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    options = parser().parse(arguments)
    # The parser alone answers --help.
    from tagferry.cli.sync_request import sync

    return sync(options)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    made = Parser("sync", description=_TEXT, usage="ORG/REPO:TAG...", epilog=_EXAMPLE)
    add = made.add_argument
    add("images", nargs="+", metavar="ORG/REPO:TAG", help="The images to synchronize.")
    add(
        "--to",
        action="append",
        required=True,
        metavar="REGION/ORG",
        help="The target region and organization. Repeatable: synchronize to each of them.",
    )
    made.add_from_environment(
        "--endpoint",
        variable="TAGFERRY_ENDPOINT",
        help="The source region's address, e.g. http://127.0.0.1:5004.",
    )
    made.add_from_environment("--ak", variable="CLOUD_SDK_AK", help="The access key.")
    made.add_from_environment("--sk", variable="CLOUD_SDK_SK", help="The secret key. Prefer the environment variable.")
    add("--override", action="store_true", help="Replace different images with the same tag.")
    add("--timeout", type=seconds, metavar="SECONDS", help="Give up after this many seconds, including queue time.")
    add("--ca-file", metavar="FILE", help="PEM file with certificate authorities to trust as well.")
    add("--json", action="store_true", help="Print the final job records, or the plan, as JSON.")
    add("--dry-run", action="store_true", help="Show what would be copied, and change nothing.")
    add("--exit-code", action="store_true", help="With --dry-run: exit with 10 if something would be copied.")
    return made
