"""JFrog Artifactory."""

from tests.registries.access import Access
from tests.registries.behaviors import no_referrers
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Vendor
from tests.support.scripted_registry import Reply, error


def _forbidden(registry: Registry, ask: Ask) -> Reply | None:
    repository = registry.contents.find(ask.repository)
    if not ask.reads or ask.kind != "manifests" or not ask.reference.startswith("sha256-"):
        return None
    if repository is not None and repository.find(ask.reference):
        return None
    told = f"Download request for repo:path '{ask.repository}/{ask.reference}/list.manifest.json' is forbidden for user"
    return error(403, "UNAUTHORIZED", f"The client does not have permission for manifest: {told}")


ARTIFACTORY = Vendor(
    name="JFrog Artifactory",
    page="artifactory",
    access=Access(realm="/v2/token", service="example.jfrog.io"),
    access_source="jfrog.com, Docker Repository URL Formats",
    behaviors=(
        *no_referrers(
            406,
            effect="Before 7.90.1, the referrers API is answered with 406.",
            source="google/go-containerregistry#1962; jfrog.com, Use Referrers REST API",
        ),
        Behavior(
            name="403 for absent signature tags",
            effect="A tag that starts with `sha256-` and does not exist may be answered with 403 instead of 404.",
            source="sigstore/cosign#2973, sigstore/cosign#2972",
            instead=_forbidden,
        ),
    ),
    repository="docker-local/team/app",
)
