"""Select the platforms of an image.

One platform of an index copies that image itself, with its own digest, as skopeo, crane and regctl do. Several
platforms need a new index, which lists only them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tagferry.copy.plan import read_platform
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.route import Route
from tagferry.errors import Invalid, Unsupported
from tagferry.names import Digest, Tag
from tagferry.oci.attestations import UNKNOWN_PLATFORM

_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "aix", "solaris", "wasip1", "js"})


class Selected(NamedTuple):
    """The part of an image to copy.

    Attributes:
        digest: the image of the one platform; None to rewrite the index.
        missing: requested platforms that the index does not list.
    """

    digest: Digest | None
    missing: tuple[str, ...] = ()


def parse_platform(text: str, *, field: str = "--platform") -> str:
    """Return a platform as `os/architecture[/variant]`; the operating system is linux if it is omitted."""
    parts = text.strip().lower().split("/")
    if len(parts) == 1 and parts[0] not in _SYSTEMS:
        parts = ["linux", *parts]
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise Invalid(field, "must have the form os/architecture[/variant], as in linux/arm64", text)
    return "/".join(parts)


async def select_platforms(route: Route, tag: Tag, platforms: Sequence[str]) -> Selected:
    """Find the images of these platforms; raises Unsupported if there is none, and errors of the source."""
    manifest = await route.source.get_manifest(route.source_repository, route.reference(tag))
    wanted = [Acceptance(platforms=(platform,)) for platform in platforms]
    if not manifest.is_index:
        platform = await read_platform(route, manifest)
        if platform != UNKNOWN_PLATFORM and not any(one.accepts_platform(platform) for one in wanted):
            raise Unsupported(f"the image is for {platform} only, and not for {', '.join(platforms)}")
        return Selected(manifest.digest)
    children = [(child.platform, child.digest) for child in manifest.children if child.platform]
    found = {
        one.platforms[0]: next((digest for name, digest in children if one.accepts_platform(name)), None)
        for one in wanted
    }
    missing = tuple(name for name, digest in found.items() if digest is None)
    if len(missing) == len(found):
        listed = dict.fromkeys(name for name, _ in children if name != UNKNOWN_PLATFORM)
        raise Unsupported(f"the image has no {' or '.join(platforms)}; it has {', '.join(listed) or 'no platforms'}")
    return Selected(None if len(platforms) > 1 else found[platforms[0]], missing)
