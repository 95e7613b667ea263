"""Select the platforms of an image.

One platform of an index copies that image itself, with its own digest, as skopeo, crane and regctl do. Several
platforms need a new index, which lists only them.
"""

from collections.abc import Sequence

from tagferry.copy.plan import read_platform
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.route import Route
from tagferry.errors import Invalid, Unsupported
from tagferry.names import Digest, Tag
from tagferry.oci.attestations import UNKNOWN_PLATFORM

_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "aix", "solaris", "wasip1", "js"})


def parse_platform(text: str, *, field: str = "--platform") -> str:
    """Return a platform as `os/architecture[/variant]`; the operating system is linux if it is omitted."""
    parts = text.strip().lower().split("/")
    if len(parts) == 1 and parts[0] not in _SYSTEMS:
        parts = ["linux", *parts]
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise Invalid(field, "must have the form os/architecture[/variant], as in linux/arm64", text)
    return "/".join(parts)


async def select_platforms(route: Route, tag: Tag, platforms: Sequence[str]) -> Digest | None:
    """Find the images of these platforms.

    Returns:
        The image of the one platform; None if the index must be rewritten.

    Raises:
        Unsupported: a platform is missing.
        TagferryError: the source failed.
    """
    manifest = await route.source.get_manifest(route.source_repository, route.reference(tag))
    if not manifest.is_index:
        platform = await read_platform(route, manifest)
        if platform != UNKNOWN_PLATFORM and (missing := _missing(platforms, [platform])):
            raise Unsupported(f"the image is for {platform} only, and not for {', '.join(missing)}")
        return manifest.digest
    children = [(child.platform, child.digest) for child in manifest.children if child.platform]
    if missing := _missing(platforms, [name for name, _ in children]):
        listed = dict.fromkeys(name for name, _ in children if name != UNKNOWN_PLATFORM)
        raise Unsupported(f"the image has no {' or '.join(missing)}; it has {', '.join(listed) or 'no platforms'}")
    if len(platforms) > 1:
        return None
    return next(digest for name, digest in children if Acceptance(platforms=(platforms[0],)).accepts_platform(name))


def _missing(wanted: Sequence[str], listed: Sequence[str]) -> list[str]:
    """Return the wanted platforms of which none is listed."""
    return [
        platform
        for platform in wanted
        if not any(Acceptance(platforms=(platform,)).accepts_platform(name) for name in listed)
    ]
