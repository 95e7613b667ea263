"""Harbor: a project with immutable tags, an older release, and a proxy-cache project."""

from tests.registries.access import Access
from tests.registries.behaviors import immutable_tags, no_referrers, repository_must_exist
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Refusals, Vendor
from tests.support.scripted_registry import Reply, error

_ACCESS = Access(username="robot$team+ferry", realm="/service/token", service="harbor-registry")
_ROBOTS = "goharbor.io, Create Project Robot Accounts"


def _proxy_push(registry: Registry, ask: Ask) -> Reply | None:
    if ask.reads or not ask.repository:
        return None
    return error(403, "DENIED", "can not push artifact to a proxy project: team")


HARBOR = Vendor(
    name="Harbor",
    page="harbor",
    access=_ACCESS,
    access_source=_ROBOTS,
    behaviors=(
        repository_must_exist(
            401,
            "UNAUTHORIZED",
            "unauthorized to access repository: {repository}, action: push",
            effect="A push to a project that does not exist is answered 401, as one without permission.",
            source="goharbor/harbor#966, goharbor/harbor#13988",
        ),
        immutable_tags(
            412,
            "PRECONDITION",
            "Failed to process request due to '{repository}:{tag}' configured as immutable.",
            effect="A tag that an immutability rule matches is not written again: 412.",
            source="goharbor/harbor#9427",
        ),
        *no_referrers(
            404,
            effect="Before 2.8, the referrers API is answered with 404.",
            source="goharbor/harbor#18324",
        ),
    ),
    refuses=Refusals(new_repository="unauthorized to access repository", replacement="configured as immutable"),
)

HARBOR_PROXY = Vendor(
    name="Harbor, proxy-cache project",
    page="harbor",
    access=_ACCESS,
    access_source=_ROBOTS,
    behaviors=(
        Behavior(
            name="proxy projects take no pushes",
            effect="A push to a proxy-cache project is denied (405 until 2.1).",
            source="goharbor/harbor, src/server/middleware/repoproxy; goharbor/harbor#12731",
            instead=_proxy_push,
            refuses=True,
        ),
    ),
    refuses=Refusals(push="can not push artifact to a proxy project"),
)
