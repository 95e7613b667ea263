"""Quay, as quay.io and as Red Hat Quay."""

from tests.registries.access import Access
from tests.registries.behaviors import opaque_pages
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import GrantsOf, Vendor
from tests.support.scripted_registry import Reply


def _reported(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    """Count the token server's grants, which the registry's response alone does not show."""
    is_absent = bool(ask.repository) and registry.contents.find(ask.repository) is None
    return reply if is_absent and reply.status == 401 and "Authorization" in ask.headers else None


QUAY = Vendor(
    name="Quay (quay.io)",
    page="quay",
    access=Access(username="team+robot", realm="/v2/auth", service="quay.io"),
    access_source="helm/helm#31567",
    behaviors=(
        Behavior(
            name="no pull from a missing repository",
            effect="A token for `pull` alone grants nothing in a repository that does not exist: 401 instead of 404.",
            source="helm/helm#31567",
            afterwards=_reported,
            avoided="target tokens are requested with `pull,push`",
        ),
        opaque_pages(
            2,
            "next_page",
            effect="Lists of tags have pages of 50, linked absolutely by an opaque `next_page`.",
            source="TritonDataCenter/node-docker-registry-client#12",
        ),
    ),
    grants=GrantsOf(absent_without_push=False),
)
