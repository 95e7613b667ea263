"""The tags of referrers, such as signatures, at registries without the referrers API.

Sources: OCI distribution-spec 1.1, "Referrers Tag Schema"; cosign's signature specification, "Storage".
"""

import re

from tagferry.names import Digest, Tag

_COSIGN_SUFFIXES = {".sig": "signature", ".att": "attestation", ".sbom": "sbom"}
_REFERRER_TAG = re.compile(rf"sha(256|512)-[0-9a-f]{{64}}({'|'.join(map(re.escape, _COSIGN_SUFFIXES))})?")


def referrers_tag(subject: Digest) -> Tag:
    """Return the tag of the index that lists a manifest's referrers."""
    return Tag(f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def cosign_tags(subject: Digest) -> tuple[Tag, ...]:
    """Return the tags of cosign's signature, attestations and bill of materials of a manifest."""
    return tuple(Tag(f"{subject.algorithm}-{subject.encoded[:64]}{suffix}") for suffix in _COSIGN_SUFFIXES)


def cosign_kind(tag: Tag) -> str:
    """Return the kind of a cosign tag: `signature`, `attestation` or `sbom`."""
    return _COSIGN_SUFFIXES[f".{tag.rpartition('.')[2]}"]


def subject_digest(tag: Tag) -> Digest | None:
    """Return the digest in a referrer tag; None for other tags, and if the tag has only a part of the digest."""
    if not is_referrer_tag(tag) or not tag.startswith("sha256-"):
        return None
    return Digest(tag.partition(".")[0].replace("-", ":"))


def is_referrer_tag(tag: Tag) -> bool:
    """Return whether a tag is derived from the digest of a subject."""
    return _REFERRER_TAG.fullmatch(tag) is not None
