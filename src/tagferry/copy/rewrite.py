"""Rewrite an image into a form that the target accepts: pure functions of data.

Only manifests are rewritten, never blobs. An accepted manifest keeps its bytes; any other is rewritten
deterministically, so that the same image always gets the same digest.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tagferry.copy.formats import Format, convert, format_of, with_fields
from tagferry.copy.image import Image
from tagferry.errors import Unsupported
from tagferry.names import Digest
from tagferry.oci.attestations import attestation_subject, is_listed_as_attestation
from tagferry.oci.model import DOCKER_CONFIG, OCI_CONFIG, Descriptor, Manifest

_IMPLIED_VARIANTS = {"arm64": "v8", "amd64": "v1", "arm": "v7"}
_SETTING = "rewrite = true in the target region's accepts"


class Acceptance(NamedTuple):
    """The images that a target accepts; by default all, unchanged.

    Attributes:
        platforms: the accepted platforms, as `os/architecture[/variant]`; empty for all.
        format: the only accepted format of manifests; None for both.
        attestations: whether BuildKit's attestations are accepted; if not, they are removed, which changes the digest.
        foreign_layers: whether to copy non-distributable layers too, not only their `urls`.
        rewrite: whether other images may be rewritten into an accepted form, under new digests.
    """

    platforms: tuple[str, ...] = ()
    format: Format | None = None
    attestations: bool = True
    foreign_layers: bool = False
    rewrite: bool = False

    @property
    def is_restrictive(self) -> bool:
        """True if some images are not accepted unchanged."""
        return bool(self.platforms or self.format or not self.attestations)

    @property
    def may_change(self) -> bool:
        """True if an image may have another digest at the target than at the source."""
        return not self.attestations or (self.rewrite and self.is_restrictive)

    def accepts_platform(self, platform: str) -> bool:
        """Return whether images of this platform are accepted; a variant that the architecture implies is optional."""
        return not self.platforms or _normal(platform) in map(_normal, self.platforms)


class Rewrite(NamedTuple):
    """The difference between an image at the source and at the target.

    Attributes:
        digests: the target's digest of each rewritten manifest, by its digest at the source.
        left_behind: digests and tags that are not copied: manifests of other platforms, attestations that the target
            does not accept, and attestations and referrers of digests that no longer exist after the rewrite.
    """

    digests: Mapping[Digest, Digest] = MappingProxyType({})
    left_behind: tuple[str, ...] = ()


def images_without_platform(image: Image) -> tuple[Manifest, ...]:
    """Return the images whose platform is only in their config, because no index lists it."""
    listed = {image.root.digest}
    for index in image.manifests:
        listed.update(child.digest for child in index.children if child.platform is None)
    return tuple(one for one in image.manifests if one.digest in listed and _has_platform(one))


def rewrite(image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> tuple[Image, Rewrite | None]:
    """Return the image in a form that the target accepts, and the difference; None if it is unchanged.

    Args:
        image: the image at the source.
        accepts: the images that the target accepts.
        platforms: the platforms of the images that `images_without_platform` returns.

    Raises:
        Unsupported: the target does not accept the image, and it must not or cannot be rewritten.
    """
    if not accepts.is_restrictive:
        return image, None
    _refuse_other_platforms(image, accepts, platforms)
    _refuse_attestations_alone(image, accepts)
    if accepts.rewrite:
        return _Rewriter(image, accepts, platforms).result()
    rewritten, difference = _Rewriter(image, accepts._replace(platforms=(), format=None), platforms).result()
    _refuse_other_format(rewritten, accepts)
    return rewritten, difference


class _Selection:
    """Selects the manifests of accepted platforms; blobs that an index lists are always selected."""

    def __init__(self, image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> None:
        self._manifests = {manifest.digest: manifest for manifest in image.manifests}
        self._accepts = accepts
        self._platforms = platforms
        self._positions: dict[Digest, list[int]] = {}

    def positions(self, index: Manifest) -> list[int]:
        """Return the positions of the index's accepted entries; an attestation follows its subject."""
        if index.digest not in self._positions:
            others = {
                child.digest
                for child in index.listed
                if not attestation_subject(child) and not self._accepts_child(child)
            }
            self._positions[index.digest] = [
                position
                for position, child in enumerate(index.listed)
                if (attestation_subject(child) or child.digest) not in others and not self.drops(child)
            ]
        return self._positions[index.digest]

    def is_empty(self, index: Manifest) -> bool:
        """Return whether the selection of the index contains only attestations."""
        return all(attestation_subject(index.listed[position]) for position in self.positions(index))

    def platform(self, child: Descriptor) -> str | None:
        """Return the platform of a child; None for artifacts, blobs and nested indexes."""
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

    def _accepts_child(self, child: Descriptor) -> bool:
        manifest = self._manifests.get(child.digest)
        if manifest is not None and manifest.is_index:
            return not manifest.listed or not self.is_empty(manifest)
        platform = self.platform(child)
        return platform is None or self._accepts.accepts_platform(platform)


class _Rewriter:
    """Rewrites one image."""

    def __init__(self, image: Image, accepts: Acceptance, platforms: Mapping[Digest, str]) -> None:
        self._image = image
        self._accepts = accepts
        self._selection = _Selection(image, accepts, platforms)
        self._old = {manifest.digest: manifest for manifest in image.manifests}
        self._new: dict[Digest, Manifest] = {}

    def result(self) -> tuple[Image, Rewrite | None]:
        """Return the new image and the difference."""
        root = self._rewritten(self._image.root)
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

    def _rewritten(self, old: Manifest) -> Manifest:
        """Return the rewritten form of a manifest and everything below it."""
        if old.digest not in self._new:
            self._new[old.digest] = self._index(old) if old.is_index else convert(old, self._accepts.format)
        return self._new[old.digest]

    def _index(self, old: Manifest) -> Manifest:
        positions = self._selection.positions(old)
        # An attestation is not valid for another digest, so those whose subject changes are removed.
        changed = {
            child.digest
            for child in map(old.listed.__getitem__, positions)
            if child.digest in self._old
            and not attestation_subject(child)
            and self._rewritten(self._old[child.digest]).digest != child.digest
        }
        positions = [one for one in positions if attestation_subject(old.listed[one]) not in changed]
        entries = [self._entry(old, position) for position in positions]
        if entries == old.document.get("manifests", []):
            return convert(old, self._accepts.format)
        return convert(with_fields(old, manifests=entries), self._accepts.format)

    def _entry(self, index: Manifest, position: int) -> dict[str, Any]:
        entry: dict[str, Any] = index.document["manifests"][position]
        old = self._old.get(index.listed[position].digest)
        child = self._rewritten(old) if old else None
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
        if platform is not None and not accepts.accepts_platform(platform):
            raise Unsupported(f"the target region accepts only {wanted}, and this image is for {platform}")
        return
    selection = _Selection(image, accepts, platforms)
    others = _other_platforms(image, selection)
    if others and selection.is_empty(root):
        raise Unsupported(f"the target region accepts only {wanted}, and this index lists {_list(others)}")
    if others and not accepts.rewrite:
        raise Unsupported(
            f"the target region accepts only {wanted}, and this index also lists {_list(others)}; "
            f"to copy the index without them, under another digest, set {_SETTING}"
        )


def _refuse_attestations_alone(image: Image, accepts: Acceptance) -> None:
    selection = _Selection(image, accepts, {})
    if image.root.listed and all(selection.drops(child) for child in image.root.listed):
        raise Unsupported(
            "the target region accepts no build attestations, and this index lists nothing else; "
            "to copy it, set attestations = true in the target region's accepts"
        )


def _other_platforms(image: Image, selection: _Selection) -> list[str]:
    others: dict[str, None] = {}
    for index in image.manifests:
        accepted = {index.listed[one].digest for one in selection.positions(index)}
        for child in index.children:
            platform = selection.platform(child)
            if platform is None or child.digest in accepted or attestation_subject(child) or selection.drops(child):
                continue
            others.setdefault(platform)
    return list(others)


def _refuse_other_format(image: Image, accepts: Acceptance) -> None:
    for manifest in reversed(list(image.manifests)):
        if accepts.format and format_of(manifest) != accepts.format:
            raise Unsupported(
                f"the target region accepts only the format {accepts.format}, and {manifest.digest} has the type "
                f"{manifest.media_type}; to convert it, which changes its digest, set {_SETTING}"
            )


def _has_platform(manifest: Manifest) -> bool:
    return manifest.config is not None and manifest.config.media_type in (OCI_CONFIG, DOCKER_CONFIG)


def _normal(platform: str) -> tuple[str, ...]:
    """Return the platform without the variant that its architecture implies."""
    system, *rest = platform.split("/")
    if len(rest) > 1 and _IMPLIED_VARIANTS.get(rest[0]) == rest[1]:
        rest = rest[:1]
    return (system, *rest)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
