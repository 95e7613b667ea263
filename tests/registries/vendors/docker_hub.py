"""Docker Hub."""

from tests.registries.access import Access
from tests.registries.behaviors import blobs_elsewhere
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Vendor
from tests.support.scripted_registry import Reply, error

_EVERY = 25


def _limited(registry: Registry, ask: Ask) -> Reply | None:
    if ask.elsewhere or ask.kind != "manifests":
        return None
    asked = sum(one.kind == "manifests" and not one.elsewhere for one in registry.asked)
    if asked % _EVERY:
        return None
    told = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading"
    headers = {"Retry-After": "1", "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}
    return error(429, "TOOMANYREQUESTS", told, headers=headers)


DOCKER_HUB = Vendor(
    name="Docker Hub",
    page="docker-hub",
    access=Access(realm="/token", realm_elsewhere=True, service="registry.docker.io"),
    access_source="docs.docker.com, Docker Hub pull usage and limits",
    behaviors=(
        Behavior(
            name="rate limit",
            effect="Manifests are counted, and answered with 429 and `Retry-After` above the limit.",
            source="docs.docker.com, Docker Hub pull usage and limits; docker/docs#22916",
            instead=_limited,
            before_login=True,
        ),
        blobs_elsewhere(
            effect="Blobs are redirected to a storage host.",
            source="containerd/stargz-snapshotter#167",
        ),
    ),
    repository="library/app",
)
