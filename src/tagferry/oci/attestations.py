"""BuildKit's attestations: manifests in an index that document how each of its images was built.

Source: BuildKit, docs/attestations/attestation-storage.md.
"""

from tagferry.oci.model import Descriptor

UNKNOWN_PLATFORM = "unknown/unknown"
"""The platform of attestations, and of images that do not declare theirs."""
_TYPE = "vnd.docker.reference.type"
_SUBJECT = "vnd.docker.reference.digest"


def attestation_subject(child: Descriptor) -> str | None:
    """Return the subject's digest of an attestation listed by an index; None if this is no attestation."""
    return child.annotations.get(_SUBJECT) if child.platform == UNKNOWN_PLATFORM else None


def is_listed_as_attestation(child: Descriptor) -> bool:
    """Return whether an index lists this as an attestation, even without a subject."""
    return child.annotations.get(_TYPE) == "attestation-manifest" or attestation_subject(child) is not None
