"""The registry of the Kubernetes project, registry.k8s.io: a redirector in front of mirrors."""

from tests.registries.access import Access
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Refusals, Vendor
from tests.support.scripted_registry import Reply, error


def _blocked(registry: Registry, ask: Ask) -> Reply | None:
    if ask.elsewhere or ask.kind != "referrers":
        return None
    return Reply(status=404, headers={"Content-Type": "text/html"}, body=b"<!doctype html><title>404</title>")


def _read_only(registry: Registry, ask: Ask) -> Reply | None:
    return None if ask.elsewhere or ask.reads else error(405, "UNSUPPORTED", "only GET and HEAD are supported")


def _mirrored(registry: Registry, ask: Ask) -> Reply | None:
    if ask.elsewhere or not ask.repository:
        return None
    # The query is dropped, so a list of tags ignores the requested page size.
    return Reply(status=307, headers={"Location": f"{registry.elsewhere}{ask.path}"})


REGISTRY_K8S = Vendor(
    name="Kubernetes (registry.k8s.io)",
    page="registry-k8s-io",
    access=Access(scheme="open"),
    access_source="kubernetes/registry.k8s.io, README",
    behaviors=(
        Behavior(
            name="referrers blocked",
            effect="The referrers API is answered with 404 and a web page by the firewall in front of it.",
            source="kubernetes-sigs/promo-tools#1945",
            instead=_blocked,
        ),
        Behavior(
            name="read only",
            effect="Only GET and HEAD are answered.",
            source="kubernetes/k8s.io#6983",
            instead=_read_only,
            refuses=True,
        ),
        Behavior(
            name="every read redirected",
            effect="Manifests, blobs and lists of tags are redirected by 307 to a mirror; the query is dropped.",
            source="kubernetes/registry.k8s.io#326",
            instead=_mirrored,
        ),
    ),
    repository="pause",
    refuses=Refusals(push="405"),
)
