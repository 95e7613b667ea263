"""The content that images of a layout need."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tagferry import bounds
from tagferry.errors import Corrupt, Invalid, Unsupported
from tagferry.layout.files import LayoutFiles, blob_name
from tagferry.names import Digest
from tagferry.oci.model import Descriptor, Manifest


class NeededContent(NamedTuple):
    """The content that images need.

    Attributes:
        found: what the layout has.
        defective: what it lacks; blobs of another size; manifests with other content; if blobs were read, those with
            other content.
    """

    found: set[Digest]
    defective: set[Digest]


def needed_content(
    files: LayoutFiles, images: Iterable[Descriptor], *, holds: Callable[[Descriptor], bool] | None = None
) -> NeededContent:
    """Find all that these manifests need.

    Args:
        files: the layout's files.
        images: the manifests.
        holds: whether the layout has a blob; None to compare sizes only.
    """
    needed = NeededContent(set(), set())
    waiting = list(images)
    while waiting:
        one = waiting.pop()
        if one.digest in needed.found or one.digest in needed.defective:
            continue
        size = files.size(blob_name(one.digest))
        if size is not None:
            needed.found.add(one.digest)
        has_size = size == one.size or (size is None and one.is_foreign)
        content = files.read(blob_name(one.digest), bounds.MANIFEST_BYTES) if _is_read(one, size) else None
        if content is None:
            if not has_size or (holds is not None and size is not None and not holds(one)):
                needed.defective.add(one.digest)
            continue
        try:
            manifest = Manifest.parse(content, one.media_type, digest=one.digest)
        except Corrupt:
            needed.defective.add(one.digest)
        except (Invalid, Unsupported):
            # Not a manifest: an entry of an index may be a blob.
            if not has_size:
                needed.defective.add(one.digest)
        else:
            # Its bytes have the right digest. If an index lists another size, the index is wrong, at the source too.
            waiting += (*manifest.listed, *manifest.blobs)
    return needed


def _is_read(one: Descriptor, size: int | None) -> bool:
    """Return whether content of this size is read as a manifest. Large documents, such as SBOMs, are blobs."""
    if not size or not one.may_be_manifest:
        return False
    return one.is_known_manifest or size <= bounds.MANIFEST_BYTES
