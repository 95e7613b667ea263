"""Amazon Elastic Container Registry, private."""

from tests.registries.access import Access
from tests.registries.behaviors import immutable_tags, opaque_pages, repository_must_exist
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Refusals, Vendor
from tests.support.scripted_registry import Reply, error


def _mount(registry: Registry, ask: Ask) -> Reply | None:
    """Mount only blobs that a manifest refers to; otherwise answer like an ordinary POST."""
    mounted, origin = ask.parameter("mount"), registry.contents.find(ask.parameter("from"))
    if ask.method != "POST" or not mounted or origin is None:
        return None
    if any(mounted == blob.digest for manifest in origin.manifests.values() for blob in manifest.blobs):
        return None
    return registry.contents.answer(Ask(method="POST", path=ask.path, query="", headers=ask.headers, body=ask.body))


def _many(registry: Registry, ask: Ask) -> Reply | None:
    if ask.kind != "tags" or int(ask.parameter("n") or 0) <= 1000:
        return None
    told = "Invalid parameter at 'maxResults' failed to satisfy constraint: must be less than or equal to 1000"
    return error(405, "UNSUPPORTED", told)


ECR = Vendor(
    name="Amazon ECR",
    page="ecr",
    access=Access(
        scheme="basic",
        username="AWS",
        basic_challenge='Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"',
    ),
    access_source="docs.aws.amazon.com, Private registry authentication in Amazon ECR",
    behaviors=(
        repository_must_exist(
            404,
            "NAME_UNKNOWN",
            "The repository with name '{repository}' does not exist in the registry with id '123456789012'",
            effect="A push to a repository that was not created is answered 404 NAME_UNKNOWN.",
            source="docs.aws.amazon.com, Pushing a Docker image to an Amazon ECR private repository",
        ),
        immutable_tags(
            400,
            "TAG_INVALID",
            "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because "
            "the tag is immutable.",
            effect="With tag immutability, a tag is not written again, not even with the same image.",
            source="aws/containers-roadmap#2380",
        ),
        Behavior(
            name="pages up to 1,000 tags",
            effect="A list of tags with `n` above 1,000 is refused.",
            source="google/go-containerregistry#681",
            instead=_many,
            avoided="tagferry requests pages of 1,000",
        ),
        opaque_pages(
            2,
            "last",
            effect="Lists of tags have pages of 100, linked absolutely by a long opaque `last`.",
            source="deitch/docker_registry2#34",
        ),
        Behavior(
            name="mounts what a manifest refers to",
            effect="A blob is mounted only if a manifest of the other repository refers to it; else 202.",
            source="aws/containers-roadmap#2860",
            instead=_mount,
        ),
    ),
    refuses=Refusals(new_repository="does not exist", replacement="immutable"),
)
