"""Google Artifact Registry."""

from tests.registries.access import Access
from tests.registries.behaviors import no_parts
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Refusals, Vendor
from tests.support.scripted_registry import Reply, error


def _repository_of(name: str) -> str:
    """Return PROJECT/REPOSITORY of PROJECT/REPOSITORY/IMAGE."""
    return "/".join(name.split("/")[:2])


def _absent(registry: Registry, ask: Ask) -> Reply | None:
    if not ask.repository or any(_repository_of(ask.repository) == _repository_of(one) for one in _names(registry)):
        return None
    named = _repository_of(ask.repository).rpartition("/")[2]
    return error(404, "NAME_UNKNOWN", f'Repository "{named}" not found')


def _names(registry: Registry) -> list[str]:
    return list(registry.contents.repositories)


GAR = Vendor(
    name="Google Artifact Registry",
    page="gar",
    access=Access(username="oauth2accesstoken", realm="/v2/token", service="europe-docker.pkg.dev"),
    access_source="cloud.google.com, Configure authentication to Artifact Registry for Docker",
    behaviors=(
        Behavior(
            name="repositories are created first",
            effect="A repository PROJECT/REPOSITORY that was not created is answered 404 NAME_UNKNOWN.",
            source="cloud.google.com, Push and pull images: Before you begin",
            instead=_absent,
            refuses=True,
        ),
        no_parts(
            400,
            "UNSUPPORTED",
            "chunked uploads are not supported",
            name="no chunked uploads",
            effect="Blobs are taken in one request only.",
            source="dotnet/sdk-container-builds#287, quoting cloud.google.com",
        ),
    ),
    repository="project/docker/app",
    refuses=Refusals(new_repository="(?i)does not exist|not found"),
)
