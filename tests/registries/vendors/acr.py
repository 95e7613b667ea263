"""Azure Container Registry, used with an identity token."""

from tests.registries.access import Access
from tests.registries.behaviors import blobs_elsewhere
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import GrantsOf, Vendor
from tests.support.scripted_registry import Reply


def _reported(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    return reply if ask.kind == "tags" and reply.status == 401 and "Authorization" in ask.headers else None


ACR = Vendor(
    name="Azure (azurecr.io)",
    page="acr",
    access=Access(
        username="",
        refresh_token="refresh-me",
        realm="/oauth2/token",
        service="example.azurecr.io",
        tag_list_action="metadata_read",
    ),
    access_source="azure.github.io/acr/AAD-OAuth.html",
    behaviors=(
        Behavior(
            name="lists of tags not permitted",
            effect="A list of tags needs `metadata_read`, which the scope map `_repositories_pull` does not give: 401.",
            source="Azure/acr#600, Azure/acr#676",
            afterwards=_reported,
        ),
        blobs_elsewhere(
            effect="Blobs are redirected to signed URLs of Azure Storage, which refuses any Authorization.",
            source="learn.microsoft.com, Mitigate data exfiltration with dedicated data endpoints",
        ),
    ),
    grants=GrantsOf(withheld=frozenset({"metadata_read"})),
)
