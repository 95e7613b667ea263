"""Where an image is, on the pages that show it."""

from tagferry.comparison.locations import ImageLocations
from tagferry.eventual import Progress
from tagferry.names import Digest, RepositoryName
from tagferry.web.console.context import PageContext


async def locate(context: PageContext, digest: Digest, *, like: RepositoryName | None) -> ImageLocations | None:
    """Return the repositories that hold an image; None while the regions are being asked.

    Args:
        context: of the request; its caller sees only repositories that they may read.
        digest: the digest of the image.
        like: a repository that probably holds it.
    """

    async def find(_: Progress) -> ImageLocations:
        return await context.services.locations.find(context.caller, digest, like=like)

    found = await context.eventually(("locations", digest, like), find)
    return None if isinstance(found, Progress) else found
