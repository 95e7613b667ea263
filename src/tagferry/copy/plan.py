"""What a tag's copy consists of, as pure data that can be printed, tested and run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tagferry.copy.attachments import Attachment, KnownTags, find_attachments
from tagferry.copy.image import Image, distinct_blobs, read_image
from tagferry.copy.route import Route
from tagferry.names import Tag
from tagferry.oci.images import media_type_not_taken
from tagferry.oci.model import Descriptor, Manifest


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that makes up the image of a tag.

    Attributes:
        image: what the tag points to.
        attachments: what is attached to the image from outside, what is attached to before what attaches to it.
        blobs: every blob of all of them, each once.
    """

    tag: Tag
    image: Image
    attachments: tuple[Attachment, ...]
    blobs: tuple[Descriptor, ...]

    @property
    def root(self) -> Manifest:
        """What the tag points to."""
        return self.image.root

    @property
    def levels(self) -> tuple[tuple[Manifest, ...], ...]:
        """The manifests below the root, deepest level first."""
        return self.image.levels

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every manifest of the image, those that are referred to before those that refer to them."""
        return self.image.manifests


async def plan_tag(route: Route, tag: Tag, *, known_tags: KnownTags | None = None) -> Plan:
    """Read the tag's manifest, every manifest below it and what is attached to them, at the source.

    Args:
        route: from where to where.
        tag: the tag.
        known_tags: helps to find what is attached; without it attachments are left behind.

    Raises:
        NotFound: the source lacks the tag, or something that its index lists.
        Unsupported: the image is of a type that cannot be copied bit-identically, or that the target is known not
            to take.
        Invalid: the image's index nests too deep or lists too much, or too much is attached.
    """
    image = await read_image(route.source, route.source_repository, tag)
    attachments: tuple[Attachment, ...] = ()
    if known_tags is not None:
        attachments = await find_attachments(route, (manifest.digest for manifest in image.manifests), known_tags)
    manifests = [*image.manifests, *(each for one in attachments for each in one.image.manifests)]
    await _require_taken(route, manifests)
    return Plan(tag=tag, image=image, attachments=attachments, blobs=distinct_blobs(manifests))


async def _require_taken(route: Route, manifests: Iterable[Manifest]) -> None:
    refused = await route.target.refused_media_types()
    for manifest in manifests:
        if manifest.media_type in refused:
            raise media_type_not_taken(route.target.name, manifest.media_type)
