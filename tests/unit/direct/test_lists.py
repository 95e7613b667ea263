"""Lists of copies: lines, and the YAML of regsync and skopeo."""

import pytest

from tagferry.direct.lists import parse_list
from tagferry.direct.references import parse_image
from tagferry.direct.tasks import CopyList, CopyTask, TagSelection
from tagferry.errors import Invalid
from tagferry.names import Tag

REGSYNC = """
version: 1
creds:
  - registry: localhost:5000
    tls: disabled
    reqConcurrent: 3
  - registry: docker.io
    user: robot
    pass: secret
  - registry: self-signed.example
    tls: insecure
defaults:
  parallel: 2
  interval: 60m
x-mine: anything
sync:
  - source: busybox:latest
    target: localhost:5000/library/busybox:latest
    type: image
    platform: linux/amd64
    schedule: "0 1 * * *"
  - source: alpine
    target: localhost:5000/library/alpine
    type: repository
    referrers: false
    tags:
      allow: ["latest", "3", "3\\\\.\\\\d+"]
      deny: ["3\\\\.0"]
"""
SKOPEO = """
registry.example.com:
  images:
    team/busybox: []
    redis: ["1.0", 2]
  images-by-tag-regex:
    nginx: ^1\\.13
  credentials: {username: john, password: secret}
quay.io:
  tls-verify: false
  images:
    coreos/etcd: [latest]
"""


def parse(text: str, name: str = "list.yaml", target: str | None = None) -> CopyList:
    return parse_list(text, name=name, target=target)


def selected(task: CopyTask, *tags: str) -> list[str]:
    assert task.selection is not None
    return list(task.selection.of([Tag(tag) for tag in tags]))


def task(source: str, target: str, selection: TagSelection | None = None) -> CopyTask:
    return CopyTask(parse_image(source, field=""), parse_image(target, field=""), selection)


def test_a_line_names_a_source_and_a_target():
    text = "# ours\nalpine:3.20 registry.example.com/alpine:3.20\n\n  oci:images:v1\t./archive.tar  # a comment\n"

    assert parse(text, "images.txt").tasks == (
        task("alpine:3.20", "registry.example.com/alpine:3.20"),
        task("oci:images:v1", "./archive.tar"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpine", "images.txt, line 1, must be SOURCE TARGET"),
        ("alpine a b", "images.txt, line 1, must be SOURCE TARGET"),
        ("alpine b\nUPPER alpine", "images.txt, line 2: must consist of"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str):
    with pytest.raises(Invalid) as refusal:
        parse(text, "images.txt")
    assert message.replace("images.txt, line 2:", "") in refusal.value.message.replace("images.txt, line 2:", "")
    assert message.partition(",")[0] in refusal.value.message


def test_a_configuration_of_regsync_means_the_same_here():
    listed = parse(REGSYNC)

    image, repository = listed.tasks
    assert str(image.source) == "docker.io/library/busybox:latest"
    assert str(image.target) == "localhost:5000/library/busybox:latest"
    assert (image.platforms, image.referrers, image.selection) == (("linux/amd64",), True, None)
    assert str(repository.target) == "localhost:5000/library/alpine"
    assert repository.referrers is False
    assert selected(repository, "latest", "3", "3.0", "3.20", "3.20-rc1", "edge") == ["latest", "3", "3.20"]
    assert listed.plain_http == {"localhost:5000"}
    assert listed.insecure == {"self-signed.example"}
    assert listed.credentials["docker.io"].username == "robot"
    assert set(listed.ignored) == {
        "creds[0].reqConcurrent",
        "defaults.parallel",
        "defaults.interval",
        "sync[0].schedule",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("type: image", "type: registry"), "sync[0].type must be image or repository"),
        (("type: image", "type: image\n    backup: x"), "sync[0].backup is not supported by tagferry copy"),
        (("type: image", "type: image\n    mediaTypes: []"), "sync[0].mediaTypes is not supported"),
        (("parallel: 2", "hooks: {}"), "defaults.hooks is not supported"),
        (("tls: disabled", "tls: maybe"), "creds[0].tls must be one of enabled, disabled, insecure"),
        (("tls: disabled", "mirrors: [a]"), "creds[0].mirrors is not supported"),
        (("version: 1", "version: 2"), "version must be 1"),
        (("allow:", "semverRange:"), "sync[1].tags.semverRange is not supported"),
        (('"3\\\\.0"', '"("'), "sync[1].tags.deny[0] must be a regular expression"),
        (("busybox:latest", '"{{env `X`}}"'), "sync[0].source must not be a template"),
        (("platform: linux/amd64", "platform: amd64/v2/3/4"), "sync[0].platforms must have the form"),
        (("platform: linux/amd64", "platforms: linux/amd64"), 'sync[0].platforms must be a list: got "linux/amd64"'),
        (("referrers: false", "referrers: maybe"), "sync[1].referrers must be true or false"),
        (("user: robot", "user:"), "creds[1].user must be a string"),
        (("sync:", "sync: 1\nx-other:"), "sync must be a list"),
    ],
)
def test_what_tagferry_does_not_support_of_regsync_is_refused_by_its_name(change: tuple[str, str], message: str):
    with pytest.raises(Invalid) as refusal:
        parse(REGSYNC.replace(*change, 1))
    assert refusal.value.message.startswith(f"list.yaml: {message}")


def test_a_list_of_skopeo_means_the_same_here():
    listed = parse(SKOPEO, target="mirror.example.com/copies")

    targets = [f"{one.source} {one.target}" for one in listed.tasks]
    assert targets == [
        "registry.example.com/team/busybox mirror.example.com/copies/busybox",
        "registry.example.com/redis mirror.example.com/copies/redis",
        "registry.example.com/nginx mirror.example.com/copies/nginx",
        "quay.io/coreos/etcd mirror.example.com/copies/etcd",
    ]
    everything, named, matching, _ = listed.tasks
    assert selected(everything, "a", "b") == ["a", "b"]
    assert selected(named) == ["1.0", "2"]
    assert selected(matching, "1.13", "1.13.9-alpine", "11.13") == ["1.13", "1.13.9-alpine"]
    assert listed.insecure == {"quay.io"}
    assert listed.credentials["registry.example.com"].username == "john"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("images-by-tag-regex", "images-by-semver"), "images-by-semver is not supported by tagferry copy"),
        (("tls-verify: false", "cert-dir: /x"), "quay.io.cert-dir is not supported by tagferry copy"),
        (('["1.0", 2]', '["sha256:12"]'), "images.redis must list tags"),
        (("[latest]", "latest"), "images.coreos/etcd must be a list of tags"),
        (("[latest]", "[null]"), "images.coreos/etcd must be a string"),
        ((", password: secret", ", password: "), "credentials.password must be a string"),
        (("tls-verify: false", "tls-verify: maybe"), "quay.io.tls-verify must be true or false"),
    ],
)
def test_what_tagferry_does_not_support_of_skopeo_is_refused_by_its_name(change: tuple[str, str], message: str):
    with pytest.raises(Invalid) as refusal:
        parse(SKOPEO.replace(*change, 1), target="mirror.example.com")
    assert message in refusal.value.message


def test_tags_and_passwords_are_what_the_list_says_even_if_they_look_like_numbers():
    skopeo = """
registry.example.com:
  images: {010: [1.10, 010, yes, 2024-01-01, 0x1F, 1_000]}
  images-by-tag-regex: {nginx: 1.10}
  credentials: {username: 0123, password: 010}
  tls-verify: no
"""
    regsync = """
version: 1
creds: [{registry: quay.io, user: 0123, pass: 1e3}]
common: &common {type: repository}
sync:
  - source: quay.io/app
    target: localhost/app
    <<: *common
    referrers: off
    tags: {allow: [1.10, 010]}
""".replace("common: &", "x-common: &")

    named, matching = parse(skopeo, target="mirror.example.com").tasks
    (listed,) = parse(regsync).tasks
    login = parse(skopeo, target="mirror.example.com").credentials["registry.example.com"]
    robot = parse(regsync).credentials["quay.io"]

    assert str(named.source) == "registry.example.com/010"
    assert selected(named) == ["1.10", "010", "yes", "2024-01-01", "0x1F", "1_000"]
    assert selected(matching, "1.10", "1.1") == ["1.10"]
    assert selected(listed, "1.10", "1.1", "010", "8") == ["1.10", "010"]
    assert (login.username, login.password) == ("0123", "010")
    assert (robot.username, robot.password) == ("0123", "1e3")
    assert parse(skopeo, target="mirror.example.com").insecure == {"registry.example.com"}
    assert listed.referrers is False


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "images.txt"),
        ("# nothing yet\n", "images.txt"),
        ("{}", "list.yaml"),
        ("registry.example.com: {}", "list.yml"),
        ("registry.example.com: {images: {}}", "LIST.YAML"),
    ],
)
def test_a_list_without_images_is_refused(text: str, name: str):
    with pytest.raises(Invalid, match="must name at least one image to copy"):
        parse(text, name, None if name.endswith("txt") else "mirror.example.com")


def test_a_list_of_regsync_without_images_is_refused():
    with pytest.raises(Invalid, match="must name at least one image to copy"):
        parse("version: 1\nsync: []\n")


@pytest.mark.parametrize("text", ["a: [", "[]", "1", "&a [*a]", "!!python/object:os.system {}", "a: 1"])
def test_other_yaml_is_refused(text: str):
    with pytest.raises(Invalid):
        parse(text, target="mirror.example.com")


def test_a_target_is_given_exactly_where_the_list_has_none():
    for text, name, target in (
        ("a b", "images.txt", "c"),
        (REGSYNC, "list.yaml", "c"),
        (SKOPEO, "list.yaml", None),
    ):
        with pytest.raises(Invalid, match="TARGET"):
            parse(text, name, target)
