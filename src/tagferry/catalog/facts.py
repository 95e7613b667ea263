"""Facts about manifests that lists show, and the memory for them.

A digest always has the same content, so these facts are remembered, within a bound of bytes for the whole process.
Whether a repository still holds the content is not remembered here.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from tagferry import bounds
from tagferry.names import Digest
from tagferry.oci.attestations import UNKNOWN_PLATFORM
from tagferry.oci.dates import parse_date
from tagferry.oci.fields import platform_name
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.strict_json import has_too_many_values

_CREATED = "org.opencontainers.image.created"
_ENTRY_BYTES = 600
"""The memory of an entry, about, without descriptors."""
_DESCRIPTOR_BYTES = 250
_BLOB_BYTES = 100
"""The memory of a blob in an image, about, whose digest the manifest's facts have, too."""
_CONFIG_BYTES = 450


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a list, or another artifact.

    Attributes:
        config: the config of an image manifest.
        blobs: the sizes of all distinct blobs, over all platforms.
        size: their sum.
        built: when it was built; None if unknown or not plausible.
        is_referrer: whether it refers to a subject.
        platforms: the platforms that an index lists, without those of attestations; of an image, that of its config.
    """

    digest: Digest
    is_index: bool
    config: Digest | None
    blobs: Mapping[Digest, int]
    size: int
    built: datetime | None
    is_referrer: bool
    platforms: tuple[str, ...] = ()


class ConfigFacts(NamedTuple):
    """The facts about a config that lists need.

    Attributes:
        built: when the image was built; None if the config does not say, or says something strange.
        platform: `os/architecture[/variant]`; "" if the config names none, as those of other artifacts.
    """

    built: datetime | None = None
    platform: str = ""

    @classmethod
    def of(cls, config: bytes) -> "ConfigFacts":
        """Return the facts of a config; none if it is no JSON object."""
        if has_too_many_values(config):
            return cls()
        try:
            document = json.loads(config)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(document, dict):
            return cls()
        return cls(parse_date(document.get("created")), platform_name(document) or "")


class Child(NamedTuple):
    """A manifest in an index.

    Attributes:
        is_known: whether it has a manifest's type; otherwise it may be a blob.
    """

    digest: Digest
    size: int
    is_known: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one manifest that lists need. They depend on the digest alone, so they never change."""

    is_index: bool
    is_referrer: bool
    config: Descriptor | None
    blobs: tuple[tuple[Digest, int], ...]
    children: tuple[Child, ...]
    annotated: datetime | None
    platforms: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> "Facts":
        """Return the facts of a manifest; raises Invalid."""
        config = None if manifest.is_index else manifest.config
        return cls(
            is_index=manifest.is_index,
            is_referrer=manifest.subject is not None,
            config=config and Descriptor(config.media_type, config.digest, config.size),
            blobs=tuple((blob.digest, blob.size) for blob in manifest.blobs),
            children=tuple(Child(one.digest, one.size, one.is_known_manifest) for one in manifest.children),
            annotated=parse_date(manifest.annotations.get(_CREATED)),
            platforms=tuple(
                dict.fromkeys(
                    child.platform
                    for child in manifest.children
                    if child.platform is not None and child.platform != UNKNOWN_PLATFORM
                )
            ),
        )

    @property
    def weight(self) -> int:
        """Number of descriptors."""
        return 1 + len(self.blobs) + len(self.children)


class Memory:
    """Entries up to a number of bytes; the least recently used one is forgotten first.

    Args:
        limit: returns the number of bytes.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> Any:
        """Return an entry; None if it is not remembered."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        self._kept.move_to_end(key)
        return entry[0]

    def keep(self, key: Hashable, value: Any, size: int) -> None:
        """Remember an entry that takes this many bytes, about."""
        self._forget(key)
        self._kept[key] = value, size
        self._bytes += size
        while self._bytes > self._limit():
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Hashable) -> None:
        if (entry := self._kept.pop(key, None)) is not None:
            self._bytes -= entry[1]


MEMORY = Memory(lambda: bounds.LISTED_MEMORY_BYTES)
"""The facts that all lists of the process remember."""


class FactsMemory:
    """The remembered facts of manifests and configs.

    Args:
        scope: separates what may differ for the same digest: a registry hides content from some users and repositories.
    """

    def __init__(self, scope: Hashable) -> None:
        self._scope = scope

    def facts(self, digest: Digest) -> Facts | None:
        """Return the facts of a manifest; None if they are not remembered."""
        found: Facts | None = MEMORY.get(("manifest", self._scope, digest))
        return found

    def keep_facts(self, digest: Digest, facts: Facts) -> None:
        """Remember the facts of a manifest."""
        size = _ENTRY_BYTES + _DESCRIPTOR_BYTES * facts.weight
        MEMORY.keep(("manifest", self._scope, digest), facts, size)

    def image(self, digest: Digest) -> Image | None:
        """Return an image whose manifest lists no others; None if it is not remembered."""
        found: Image | None = MEMORY.get(("image", self._scope, digest))
        return found

    def keep_image(self, image: Image) -> None:
        """Remember an image whose manifest lists no others, and whose config is known."""
        size = _ENTRY_BYTES + _BLOB_BYTES * len(image.blobs)
        MEMORY.keep(("image", self._scope, image.digest), image, size)

    def config(self, digest: Digest) -> ConfigFacts | None:
        """Return the facts of a config; None if they are not remembered."""
        found: ConfigFacts | None = MEMORY.get(("config", self._scope, digest))
        return found

    def keep_config(self, digest: Digest, facts: ConfigFacts) -> None:
        """Remember the facts of a config."""
        MEMORY.keep(("config", self._scope, digest), facts, _CONFIG_BYTES)
