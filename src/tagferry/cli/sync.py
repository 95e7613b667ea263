"""`tagferry sync`: synchronize images through the API."""

from argparse import Namespace
from collections.abc import Sequence

from tagferry.cli.arguments import Parser

_TEXT = "Synchronize images to another region and follow the progress. Exits with code 1 if a tag is not copied."
_EXAMPLE = "Example: tagferry sync team/web:v1 team/web:v2 --to cn-north-208/release"


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    # The parser alone answers --help.
    from tagferry.cli.sync_request import sync

    return sync(options)


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser("sync", description=_TEXT, usage="ORG/REPO:TAG...", epilog=_EXAMPLE)
    add = parser.add_argument
    add("images", nargs="+", metavar="ORG/REPO:TAG", help="The images to synchronize.")
    add("--to", required=True, metavar="REGION/ORG", help="The target region and organization.")
    parser.add_from_environment(
        "--endpoint",
        variable="TAGFERRY_ENDPOINT",
        help="The source region's address, e.g. http://127.0.0.1:5004.",
    )
    parser.add_from_environment("--ak", variable="CLOUD_SDK_AK", help="The access key.")
    parser.add_from_environment(
        "--sk", variable="CLOUD_SDK_SK", help="The secret key. Prefer the environment variable."
    )
    add("--override", action="store_true", help="Replace different images with the same tag.")
    add("--timeout", type=float, metavar="SECONDS", help="Give up after this many seconds, including queue time.")
    add("--ca-file", metavar="FILE", help="PEM file with certificate authorities to trust as well.")
    add("--json", action="store_true", help="Print the final job records, or the plan, as JSON.")
    add("--dry-run", action="store_true", help="Show what would be copied, and change nothing.")
    return parser.parse(arguments)
