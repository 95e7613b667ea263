"""References to images, as users of docker, skopeo, crane and regctl type them."""

import pytest

from tagferry.direct.references import LayoutReference, RegistryReference, parse_image
from tagferry.errors import Invalid
from tagferry.names import Digest, RepositoryName, Tag

DIGEST = Digest.of(b"an image")


def registry(host: str, repository: str, tag: str | None = None, digest: Digest | None = None) -> RegistryReference:
    return RegistryReference(host, RepositoryName(repository), Tag(tag) if tag else None, digest)


def layout(path: str, name: str = "", digest: Digest | None = None) -> LayoutReference:
    return LayoutReference(path, name, digest)


def archive(path: str, name: str = "", digest: Digest | None = None) -> LayoutReference:
    return LayoutReference(path, name, digest, is_archive=True)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("alpine", registry("docker.io", "library/alpine")),
        ("alpine:3.20", registry("docker.io", "library/alpine", "3.20")),
        (f"alpine@{DIGEST}", registry("docker.io", "library/alpine", None, DIGEST)),
        (f"alpine:3.20@{DIGEST}", registry("docker.io", "library/alpine", "3.20", DIGEST)),
        ("grafana/grafana", registry("docker.io", "grafana/grafana")),
        ("docker.io/alpine", registry("docker.io", "library/alpine")),
        ("index.docker.io/library/alpine", registry("docker.io", "library/alpine")),
        ("registry-1.docker.io/grafana/grafana:11", registry("docker.io", "grafana/grafana", "11")),
        ("docker://alpine", registry("docker.io", "library/alpine")),
        ("docker://quay.io/team/app:v1", registry("quay.io", "team/app", "v1")),
        ("quay.io/app", registry("quay.io", "app")),
        ("localhost/app:v1", registry("localhost", "app", "v1")),
        ("localhost:5000/team/app", registry("localhost:5000", "team/app")),
        ("registry:5000/a/b/c:v1", registry("registry:5000", "a/b/c", "v1")),
        ("127.0.0.1:5000/app", registry("127.0.0.1:5000", "app")),
        ("[::1]:5000/team/app:v1", registry("[::1]:5000", "team/app", "v1")),
        ("Registry/app", registry("registry", "app")),
        ("oci:/srv/images", layout("/srv/images")),
        ("oci:images:v1", layout("images", "v1")),
        ("oci:images:docker.io/library/alpine:3.20", layout("images", "docker.io/library/alpine:3.20")),
        (f"oci:images@{DIGEST}", layout("images", "", DIGEST)),
        (f"oci:images:v1@{DIGEST}", layout("images", "v1", DIGEST)),
        ("ocidir://images:v1", layout("images", "v1")),
        ("./images", layout("./images")),
        ("/srv/images:v1", layout("/srv/images", "v1")),
        ("oci-archive:app", archive("app")),
        ("oci-archive:app:v1", archive("app", "v1")),
        ("oci-archive:/a:b/app.tar:v1", archive("/a:b/app.tar", "v1")),
        ("docker-archive:app.tar", archive("app.tar")._replace(is_docker_archive=True)),
        ("app.tar", archive("app.tar")),
        ("images/app.tar:v1", archive("images/app.tar", "v1")),
        ("../app.tar", archive("../app.tar")),
        ("/srv/app.tar:v1", archive("/srv/app.tar", "v1")),
        (f"./app.tar@{DIGEST}", archive("./app.tar", "", DIGEST)),
        ("docker://app.tar", registry("docker.io", "library/app.tar")),
    ],
)
def test_a_reference_means_what_it_means_to_docker_and_skopeo(text: str, meant: object):
    assert parse_image(text, field="SOURCE") == meant


@pytest.mark.parametrize(
    "text",
    [
        "alpine:3.20",
        f"quay.io/team/app@{DIGEST}",
        f"quay.io/app:v1@{DIGEST}",
        "oci:images:v1",
        "oci-archive:app.tar:v1",
    ],
)
def test_a_reference_is_printed_as_one_that_means_the_same(text: str):
    meant = parse_image(text, field="SOURCE")

    assert parse_image(str(meant), field="SOURCE") == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the repository of SOURCE must consist of"),
        ("UPPER", "the repository of SOURCE must consist of lowercase letters"),
        ("team/app:", "the tag of SOURCE must be 1 to 128 characters long"),
        ("team/app:-v1", "the tag of SOURCE must start with"),
        ("team/app@sha256:12", "the digest of SOURCE must be followed by 64"),
        ("team/app@v1", "SOURCE must consist of"),
        ("https://quay.io/team/app", "SOURCE must have no scheme"),
        ("http://localhost:5000/app", "add --plain-http HOST"),
        ("-bad.example/app", "SOURCE must begin with the host of a registry"),
        ("user:secret@quay.io/app", "SOURCE must"),
        ("localhost:5000", "SOURCE must name a repository of the registry, as in localhost:5000/team/app"),
        ("localhost:5000/", "as in localhost:5000/team/app"),
        ("localhost", "as in localhost/team/app"),
        ("127.0.0.1", "as in 127.0.0.1/team/app"),
        ("127.0.0.1:5000", "as in 127.0.0.1:5000/team/app"),
        ("[::1]:5000", "as in [::1]:5000/team/app"),
        ("docker://registry.example.com:443", "as in registry.example.com:443/team/app"),
        ("localhost:5000/team/app.tar:v1", "docker://localhost:5000/team/app.tar:v1 for a registry, or oci-archive:"),
        ("quay.io/team/app.tar", "oci-archive:quay.io/team/app.tar for a file"),
        ("oci:", "SOURCE must name the path"),
        ("oci-archive:", "SOURCE must name the path"),
        ("containers-storage:alpine", "podman save --format oci-archive"),
        ("docker-daemon:alpine:latest", "docker save"),
        ("dir:images", "oci:PATH"),
    ],
)
def test_an_invalid_reference_is_refused_with_the_rule_that_it_violates(text: str, message: str):
    with pytest.raises(Invalid) as refusal:
        parse_image(text, field="SOURCE")
    assert message in refusal.value.message
