"""GitHub's container registry, ghcr.io."""

from tests.registries.access import Access
from tests.registries.behaviors import blobs_elsewhere, no_parts, subjects_not_noted
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Vendor
from tests.support.scripted_registry import Reply


def _referrers(registry: Registry, ask: Ask) -> Reply | None:
    if ask.elsewhere and ask.path.startswith("/-/v2/packages/"):
        headers = {"Content-Type": "text/html", "Retry-After": "60"}
        return Reply(status=429, headers=headers, body=b"<html>Too many requests</html>")
    if ask.kind != "referrers":
        return None
    # The digest is cut off, as at GitHub.
    location = f"{registry.elsewhere}/-/v2/packages/container/package/{ask.repository}/referrers/sha256"
    return Reply(status=303, headers={"Location": location})


GHCR = Vendor(
    name="GitHub (ghcr.io)",
    page="ghcr",
    access=Access(realm="/token", service="ghcr.io"),
    access_source="docs.github.com, Working with the Container registry",
    behaviors=(
        Behavior(
            name="referrers redirected to a web page",
            effect="The referrers API answers 303 to GitHub's web site, which answers 429.",
            source="artifacthub/hub#4785",
            instead=_referrers,
        ),
        subjects_not_noted(source="actions/attest-build-provenance#71"),
        blobs_elsewhere(
            effect="Blobs are redirected to a storage host, which refuses HEAD with 403.",
            source="containerd/stargz-snapshotter#167",
        ),
        no_parts(
            416,
            "REQUESTED_RANGE_NOT_SATISFIABLE",
            "the request body is too large and exceeds the maximum permissible limit of 4.00MiB",
            limit=4 * 1024 * 1024,
            name="parts up to 4 MiB",
            effect="A part of a chunked upload may have up to 4 MiB.",
            source="oras-project/rust-oci-client#35",
        ),
    ),
)
