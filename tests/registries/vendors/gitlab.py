"""GitLab's container registry."""

from tests.registries.access import Access
from tests.registries.behaviors import is_digest_tag, no_referrers
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Vendor
from tests.support.scripted_registry import Reply


def _normalized(registry: Registry, ask: Ask) -> Reply | None:
    """An existing tag of that name is left alone, since GitLab's behavior then is not documented."""
    repository = registry.contents.find(ask.repository)
    if not repository or not ask.reads or not is_digest_tag(ask.reference) or ask.reference in repository.tags:
        return None
    digest = ask.reference.replace("-", ":")
    if digest not in repository.manifests:
        return None
    path = f"/v2/{ask.repository}/manifests/{digest}"
    return registry.contents.answer(Ask(method=ask.method, path=path, query="", headers=ask.headers, body=b""))


GITLAB = Vendor(
    name="GitLab",
    page="gitlab",
    access=Access(
        username="gitlab+deploy-token-1",
        realm="/jwt/auth",
        realm_elsewhere=True,
        service="container_registry",
        uses=12,
    ),
    access_source="docs.gitlab.com, Authenticate with the container registry",
    behaviors=(
        *no_referrers(404, effect="The referrers API is answered with 404.", source="oras-project/oras-go#1396"),
        Behavior(
            name="tags made from digests",
            effect="The reference `sha256-<hex>` resolves to the manifest `sha256:<hex>`, as if it were its digest.",
            source="oras-project/oras-go#1396",
            instead=_normalized,
        ),
        Behavior(
            name="tokens end early",
            effect="Tokens are given by GitLab's own host for a few minutes, and end in the middle of a copy.",
            source="gitlab-org/gitlab-ce#17890",
            afterwards=lambda registry, ask, reply: (
                reply if reply.status == 401 and ask.headers.get("Authorization", "").startswith("Bearer") else None
            ),
        ),
    ),
    repository="group/project/app",
)
