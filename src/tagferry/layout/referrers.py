"""Referrers in a layout: they are listed by an index under a tag that is derived from the subject's digest."""

import re

from tagferry import bounds
from tagferry.errors import Conflict
from tagferry.layout.files import LayoutFiles, blob_name
from tagferry.layout.index import Entry, LayoutIndex
from tagferry.oci.model import OCI_INDEX, Manifest
from tagferry.oci.referrer_index import index_with_referrer
from tagferry.oci.referrer_tags import is_referrer_tag, referrers_tag

_REFERRERS = re.compile(r"sha(256|512)-[0-9a-f]{64}")
"""The tag of an index of referrers."""


def lists_referrers(entry: Entry) -> bool:
    """Return whether an entry of the index lists referrers, instead of being an image."""
    return _REFERRERS.fullmatch(entry.name) is not None


def is_referrer(entry: Entry) -> bool:
    """Return whether an entry of the index is a referrer, such as a signature of cosign, or lists referrers."""
    return entry.tag is not None and is_referrer_tag(entry.tag)


def with_referrer(files: LayoutFiles, name: str, referrer: Manifest, index: LayoutIndex) -> LayoutIndex:
    """Return the index with a manifest listed as a referrer of its subject; blocks.

    Args:
        files: the layout's files; a new list of referrers is added to them.
        name: the layout's name in messages.
        referrer: the manifest, which has a subject.
        index: the index.

    Raises:
        Conflict: the tag of the list is that of an image.
    """
    assert referrer.subject is not None  # noqa: S101
    tag = referrers_tag(referrer.subject.digest)
    entry = index.named(tag)
    current = None
    if entry is not None:
        content = files.read(blob_name(entry.descriptor.digest), bounds.MANIFEST_BYTES)
        current = Manifest.parse(content, entry.descriptor.media_type) if content is not None else None
    if current is not None and current.media_type != OCI_INDEX:
        raise Conflict("referrers tag", f"{name}: the tag {tag} is not an index of referrers; delete it first")
    if current is not None and any(one.digest == referrer.digest for one in current.listed):
        return index
    listing = Manifest.parse(index_with_referrer(current, referrer), OCI_INDEX)
    files.add(listing.descriptor, listing.raw)
    return index.with_tag(tag, listing.descriptor)
