"""What a target takes, and an image made into what it takes: pure data in, pure data out.

A blob never changes, only the manifests above it. What is taken as it is keeps its bytes; everything else is made
once, by the same rules in the same order, so that the same image always becomes the same digest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tagferry.copy.formats import Format, convert, format_of, with_fields
from tagferry.copy.image import Image
from tagferry.errors import Unsupported
from tagferry.names import Digest
from tagferry.oci.attestations import attestation_subject, is_listed_as_attestation
from tagferry.oci.model import DOCKER_CONFIG, OCI_CONFIG, Descriptor, Manifest

_IMPLIED_VARIANTS = {"arm64": "v8", "amd64": "v1", "arm": "v7"}
_SETTING = "rewrite = true among what the target region accepts"


class Acceptance(NamedTuple):
    """What a target takes; by default everything, as it is.

    Attributes:
        platforms: the platforms of the images that it takes, as `os/architecture[/variant]`; none means all.
        format: the only format of manifests that it takes; None means both.
        attestations: whether it takes BuildKit's attestations; where not, images come without them, under a new digest.
        foreign_layers: whether it wants to hold non-distributable layers too, instead of their `urls` alone.
        rewrite: whether what it does not take may be made into something that it takes, under new digests.
    """

    platforms: tuple[str, ...] = ()
    format: Format | None = None
    attestations: bool = True
    foreign_layers: bool = False
    rewrite: bool = False

    @property
    def is_restrictive(self) -> bool:
        """Whether there are images that it does not take as they are."""
        return bool(self.platforms or self.format or not self.attestations)

    @property
    def may_change(self) -> bool:
        """Whether an image may arrive under another digest than it has at the source."""
        return not self.attestations or (self.rewrite and self.is_restrictive)

    def takes_platform(self, platform: str) -> bool:
        """Whether images of this platform are taken; variants that an architecture implies need not be told."""
        return not self.platforms or _normal(platform) in map(_normal, self.platforms)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What differs at the target from the source.

    Attributes:
        digests: the digest at the target of each manifest that had to be made anew, by its digest at the source.
        left_behind: digests and tags of what the source has and the target does not get: manifests of other
            platforms, attestations that it does not take, and attestations and attachments that speak of a digest
            which is no more.
    """

    digests: Mapping[Digest, Digest] = field(default_factory=dict, hash=False)
    left_behind: tuple[str, ...] = ()


def images_without_platform(image: Image) -> tuple[Manifest, ...]:
    """The images whose platform nothing but their config tells: no index lists them, or one lists them without."""
    listed = {image.root.digest}
    for index in image.manifests:
        listed.update(child.digest for child in index.children if child.platform is None)
    return tuple(one for one in image.manifests if one.digest in listed and _has_platform(one))


def rewrite(image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> tuple[Image, Rewrite | None]:
    """Make an image into what a target takes; None in place of a record says that nothing differs.

    Args:
        image: as the source has it.
        accepts: what the target takes.
        platforms: the platforms of those images that `undeclared` names.

    Raises:
        Unsupported: the target does not take the image, and it may not be rewritten or has no equivalent.
    """
    if not accepts.is_restrictive:
        return image, None
    _refuse_other_platforms(image, accepts, platforms)
    _refuse_attestations_alone(image, accepts)
    if accepts.rewrite:
        return _Rewriting(image, accepts, platforms).result()
    made, record = _Rewriting(image, accepts._replace(platforms=(), format=None), platforms).result()
    _refuse_other_format(made, accepts)
    return made, record


class _Selection:
    """Which of an image's manifests are of the platforms that a target takes; blobs that an index lists always are."""

    def __init__(self, image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> None:
        self._manifests = {manifest.digest: manifest for manifest in image.manifests}
        self._accepts = accepts
        self._platforms = platforms
        self._places: dict[Digest, list[int]] = {}

    def places(self, index: Manifest) -> list[int]:
        """The positions in the index of the accepted entries; an attestation follows its subject."""
        if index.digest not in self._places:
            others = {
                child.digest for child in index.listed if not attestation_subject(child) and not self._takes(child)
            }
            self._places[index.digest] = [
                place
                for place, child in enumerate(index.listed)
                if (attestation_subject(child) or child.digest) not in others and not self.drops(child)
            ]
        return self._places[index.digest]

    def is_empty(self, index: Manifest) -> bool:
        """Whether nothing but attestations is left of the index."""
        return all(attestation_subject(index.listed[place]) for place in self.places(index))

    def platform(self, child: Descriptor) -> str | None:
        """The platform of a child, None for what has none: artifacts, blobs, and indexes within an index."""
        manifest = self._manifests.get(child.digest)
        if manifest is None or manifest.is_index:
            return None
        return child.platform or self._platforms.get(child.digest)

    def drops(self, child: Descriptor) -> bool:
        """Return whether a child is an attestation that the target does not accept."""
        if self._accepts.attestations:
            return False
        manifest = self._manifests.get(child.digest)
        return is_listed_as_attestation(child) or (manifest is not None and manifest.is_attestation)

    def _takes(self, child: Descriptor) -> bool:
        manifest = self._manifests.get(child.digest)
        if manifest is not None and manifest.is_index:
            return not manifest.listed or not self.is_empty(manifest)
        platform = self.platform(child)
        return platform is None or self._accepts.takes_platform(platform)


class _Rewriting:
    """One image on its way to what a target takes."""

    def __init__(self, image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> None:
        self._image = image
        self._accepts = accepts
        self._selection = _Selection(image, accepts, platforms)
        self._old = {manifest.digest: manifest for manifest in image.manifests}
        self._new: dict[Digest, Manifest] = {}

    def result(self) -> tuple[Image, Rewrite | None]:
        """The new image, and what differs."""
        root = self._made(self._image.root)
        left = tuple(digest for digest in self._old if digest not in self._new)
        digests = {old: new.digest for old, new in self._new.items() if old != new.digest}
        if not digests:
            return self._image, None
        levels = []
        seen = {root.digest}
        for level in self._image.levels:
            made = {new.digest: new for old in level if (new := self._new.get(old.digest)) and new.digest not in seen}
            seen.update(made)
            levels.append(tuple(made.values()))
        return (
            Image(
                root=root,
                levels=tuple(level for level in levels if level),
                listed_blobs=self._image.listed_blobs,
            ),
            Rewrite(digests=digests, left_behind=left),
        )

    def _made(self, old: Manifest) -> Manifest:
        """What becomes of a manifest, and of everything below it."""
        if old.digest not in self._new:
            self._new[old.digest] = self._index(old) if old.is_index else convert(old, self._accepts.format)
        return self._new[old.digest]

    def _index(self, old: Manifest) -> Manifest:
        places = self._selection.places(old)
        # What an attestation says of a digest is untrue of any other, so those whose subject changes must go.
        changed = {
            child.digest
            for child in map(old.listed.__getitem__, places)
            if child.digest in self._old
            and not attestation_subject(child)
            and self._made(self._old[child.digest]).digest != child.digest
        }
        places = [place for place in places if attestation_subject(old.listed[place]) not in changed]
        entries = [self._entry(old, place) for place in places]
        if entries == old.document.get("manifests", []):
            return convert(old, self._accepts.format)
        return convert(with_fields(old, manifests=entries), self._accepts.format)

    def _entry(self, index: Manifest, place: int) -> dict[str, Any]:
        entry: dict[str, Any] = index.document["manifests"][place]
        old = self._old.get(index.listed[place].digest)
        child = self._made(old) if old else None
        if old is None or child is None or child.digest == old.digest:
            return entry
        kept = {name: value for name, value in entry.items() if name != "data"}
        return kept | {"mediaType": child.media_type, "digest": child.digest, "size": child.size}


def _refuse_other_platforms(image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> None:
    if not accepts.platforms:
        return
    wanted, root = _list(accepts.platforms), image.root
    if not root.is_index:
        platform = platforms.get(root.digest)
        if platform is not None and not accepts.takes_platform(platform):
            raise Unsupported(f"the target region accepts {wanted} only, and this image is of {platform}")
        return
    selection = _Selection(image, accepts, platforms)
    others = _other_platforms(image, selection)
    if others and selection.is_empty(root):
        raise Unsupported(f"the target region accepts {wanted} only, and this index lists {_list(others)}")
    if others and not accepts.rewrite:
        raise Unsupported(
            f"the target region accepts {wanted} only, and this index also lists {_list(others)}; "
            f"{_SETTING} lets a new index, with another digest, be made without them"
        )


def _refuse_attestations_alone(image: Image, accepts: Acceptance) -> None:
    selection = _Selection(image, accepts, {})
    if image.root.listed and all(selection.drops(child) for child in image.root.listed):
        raise Unsupported(
            "the target region accepts no build attestations, and this index lists nothing else; "
            "attestations = true among what the target region accepts lets it be copied"
        )


def _other_platforms(image: Image, selection: _Selection) -> list[str]:
    others: dict[str, None] = {}
    for index in image.manifests:
        taken = {index.listed[place].digest for place in selection.places(index)}
        for child in index.children:
            platform = selection.platform(child)
            if platform is None or child.digest in taken or attestation_subject(child) or selection.drops(child):
                continue
            others.setdefault(platform)
    return list(others)


def _refuse_other_format(image: Image, accepts: Acceptance) -> None:
    for manifest in reversed(list(image.manifests)):
        if accepts.format and format_of(manifest) != accepts.format:
            raise Unsupported(
                f"the target region accepts the format {accepts.format} only, and {manifest.digest} is of the type "
                f"{manifest.media_type}; {_SETTING} lets it be converted, which gives it another digest"
            )


def _has_platform(manifest: Manifest) -> bool:
    return manifest.config is not None and manifest.config.media_type in (OCI_CONFIG, DOCKER_CONFIG)


def _normal(platform: str) -> tuple[str, ...]:
    """The platform without the variant that its architecture implies."""
    system, *rest = platform.split("/")
    if len(rest) > 1 and _IMPLIED_VARIANTS.get(rest[0]) == rest[1]:
        rest = rest[:1]
    return (system, *rest)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
