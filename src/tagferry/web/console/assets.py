"""The static files of the console: style, script, icons.

Their address contains a hash of their content, so that browsers keep them forever, and load them when they change.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tagferry.errors import Unavailable

GENERATED = Path(__file__).parent / "generated"
_STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class NotGenerated(Unavailable):
    """A file that the installation generates is missing."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the console's file {name} was not generated; generate it in a checkout with: python hatch_build.py",
            is_retryable=False,
        )


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file.

    Attributes:
        served_name: the last segment of its address, with the hash.
    """

    served_name: str
    media_type: str
    content: bytes


@cache
def assets() -> dict[str, Asset]:
    """Return the static files by name; raises NotGenerated."""
    found = {file.name: _asset(file) for file in sorted(_STATIC.iterdir()) if file.suffix in _TYPES}
    icons = GENERATED / "icons.svg"
    if not icons.is_file():
        raise NotGenerated(icons.name)
    return {**found, icons.name: _asset(icons)}


@cache
def assets_as_served() -> dict[str, Asset]:
    """Return the static files by the last segment of their address; raises NotGenerated."""
    return {asset.served_name: asset for asset in assets().values()}


def _asset(file: Path) -> Asset:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(f"{file.stem}.{digest}{file.suffix}", _TYPES[file.suffix], content)
