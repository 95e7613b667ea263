"""The index of an OCI layout, `index.json`: the images in it and their names (OCI image-spec, "Image Layout")."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tagferry import bounds
from tagferry.errors import Conflict, Invalid, InvalidName, Unsupported
from tagferry.layout.files import INDEX, LAYOUT_VERSION
from tagferry.names import Digest, Tag
from tagferry.oci.model import OCI_INDEX, Descriptor
from tagferry.oci.strict_json import parse_object

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""The full name of an image; `docker save` and containerd write it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest that the index lists.

    Attributes:
        document: the entry as it is in the file.
    """

    descriptor: Descriptor
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name: a tag in most layouts; empty if it has none."""
        return self.descriptor.annotations.get(REF_NAME, "")

    @property
    def full_name(self) -> str:
        """Its name with registry and repository, if the program that wrote the layout recorded it."""
        return self.descriptor.annotations.get(IMAGE_NAME, "")

    @property
    def tag(self) -> Tag | None:
        """Its name, if that is a tag."""
        try:
            return Tag(self.name)
        except InvalidName:
            return None


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The index of a layout.

    Attributes:
        document: all of the file.
    """

    document: dict[str, Any]
    entries: tuple[Entry, ...]

    @classmethod
    def parse(cls, content: bytes | None, *, field: str = INDEX) -> "LayoutIndex":
        """Parse the file; None for a layout that does not exist. Raises Invalid, which names the file by `field`."""
        if content is None:
            return cls({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, ())
        if len(content) > bounds.TAG_LIST_BYTES:
            raise Invalid(field, f"must have at most {bounds.TAG_LIST_BYTES} bytes")
        document = parse_object(content, field=field)
        listed = document.get("manifests")
        if not isinstance(listed, list):
            raise Invalid(f"{field}: manifests", "must be an array", listed)
        return cls(
            document,
            tuple(
                Entry(Descriptor.from_json(one, field=f"{field}: manifests[{number}]"), one)
                for number, one in enumerate(listed)
            ),
        )

    def named(self, name: str) -> Entry | None:
        """Return the image of this name, or of this full name; None if there is none.

        Raises:
            Conflict: several images have this name.
        """
        found = [one for one in self.entries if name == one.name] or [
            one for one in self.entries if name == one.full_name
        ]
        if len({one.descriptor.digest for one in found}) > 1:
            names = ", ".join(one.full_name or one.descriptor.digest for one in found)
            raise Conflict("name", f'several images of the layout have the name "{name}": {names}; use one of these')
        return found[0] if found else None

    def with_digest(self, digest: Digest) -> Entry | None:
        """Return an entry with this digest, if there is one."""
        return next((one for one in self.entries if one.descriptor.digest == digest), None)

    @property
    def tags(self) -> Iterator[tuple[Tag, Entry]]:
        """The entries whose names are tags, in lexical order."""
        found: dict[Tag, Entry] = {}
        for entry in self.entries:
            if entry.tag is not None:
                found.setdefault(entry.tag, entry)
        yield from sorted(found.items())

    def with_tag(self, tag: Tag, descriptor: Descriptor) -> "LayoutIndex":
        """Return the index with this tag pointing to a manifest; everything else stays as it is."""
        document = {**descriptor.to_json(), "annotations": {REF_NAME: tag}}
        entry = Entry(Descriptor.from_json(document), document)
        return LayoutIndex(self.document, (*(one for one in self.entries if one.name != tag), entry))

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        listed = [entry.document for entry in self.entries]
        return json.dumps({**self.document, "manifests": listed}, separators=(",", ":")).encode()


def check_marker(content: bytes | None, *, field: str) -> None:
    """Check the file `oci-layout`; None if it is missing, as in layouts of some programs.

    Raises:
        Invalid: it is malformed; the file is named by `field`.
        Unsupported: the layout has another version than 1.
    """
    if content is None:
        return
    version = parse_object(content, field=field).get("imageLayoutVersion")
    if not isinstance(version, str):
        raise Invalid(f"{field}: imageLayoutVersion", f'must be "{LAYOUT_VERSION}"', version)
    if not version.startswith("1."):
        raise Unsupported(f'{field} has the version "{version}"; tagferry reads layouts of version {LAYOUT_VERSION}')
