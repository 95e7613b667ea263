"""BuildKit's attestations: manifests beside the images of an index that document how each was built.

Source: BuildKit, docs/attestations/attestation-storage.md.
"""

from tagferry.oci.model import Descriptor

UNKNOWN_PLATFORM = "unknown/unknown"
"""The platform of attestations, and of images that do not declare theirs."""
_TYPE = "vnd.docker.reference.type"
_SUBJECT = "vnd.docker.reference.digest"


def attestation_subject(child: Descriptor) -> str | None:
    """Return the digest that this attestation, listed by an index, is about; None for what is no attestation."""
    return child.annotations.get(_SUBJECT) if child.platform == UNKNOWN_PLATFORM else None


def is_listed_as_attestation(child: Descriptor) -> bool:
    """Return whether an index lists this as an attestation, even if it does not name what it is about."""
    return child.annotations.get(_TYPE) == "attestation-manifest" or attestation_subject(child) is not None
