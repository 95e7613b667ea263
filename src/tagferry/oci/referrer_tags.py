"""The tags under which signatures and the like are found at registries that do not list referrers.

Sources: OCI distribution-spec 1.1, "Referrers Tag Schema"; cosign's signature specification, "Storage".
"""

import re

from tagferry.names import Digest, Tag

_COSIGN_SUFFIXES = {".sig": "signature", ".att": "attestation", ".sbom": "sbom"}
_FROM_A_DIGEST = re.compile(rf"sha(256|512)-[0-9a-f]{{64}}({'|'.join(map(re.escape, _COSIGN_SUFFIXES))})?")


def referrers_tag(subject: Digest) -> Tag:
    """The tag of the index that lists a manifest's referrers."""
    return Tag(f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def cosign_tags(subject: Digest) -> tuple[Tag, ...]:
    """The tags of cosign's signature, attestations and bill of materials of a manifest."""
    return tuple(Tag(f"{subject.algorithm}-{subject.encoded[:64]}{suffix}") for suffix in _COSIGN_SUFFIXES)


def cosign_kind(tag: Tag) -> str:
    """What stands under one of cosign's tags: `signature`, `attestation` or `sbom`."""
    return _COSIGN_SUFFIXES[f".{tag.rpartition('.')[2]}"]


def subject_digest(tag: Tag) -> Digest | None:
    """The digest that one of these tags is made from; None for every other tag, and where the digest was cut off."""
    if not is_referrer_tag(tag) or not tag.startswith("sha256-"):
        return None
    return Digest(tag.partition(".")[0].replace("-", ":"))


def is_referrer_tag(tag: Tag) -> bool:
    """Whether a tag is one of those that are made from the digest of what something is attached to."""
    return _FROM_A_DIGEST.fullmatch(tag) is not None
