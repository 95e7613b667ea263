"""Copies without a server, between stores in memory."""

import pytest

from tagferry.cli.copy_process import code_of
from tagferry.cli.exit_codes import combined
from tagferry.direct.platforms import parse_platform
from tagferry.direct.references import ImageReference, LayoutReference, RegistryReference, parse_image
from tagferry.direct.results import CopyResult
from tagferry.direct.runner import CopyOptions, DirectCopier
from tagferry.direct.sizes import format_size, parse_rate
from tagferry.direct.stores import RegistryAccess, Stores
from tagferry.direct.tasks import CopyTask, TagSelection
from tagferry.errors import (
    Conflict,
    Invalid,
    NotFound,
    Refused,
    StorageUnavailable,
    TagferryError,
    Unavailable,
    Unsupported,
    Untrusted,
)
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.model import OCI_INDEX, Descriptor
from tagferry.oci.referrer_tags import cosign_tags
from tagferry.oci.refusal import manifest_refused
from tagferry.patterns import Pattern
from tests.support.images import artifact, image, index, push
from tests.support.memory_store import MemoryStore

APP, COPY = RepositoryName("team/app"), RepositoryName("release/app")
V1, V2 = Tag("v1"), Tag("v2")
AMD, ARM, S390 = (image(seed=name, platform=("linux", name)) for name in ("amd64", "arm64", "s390x"))
MULTI = index(AMD, ARM, S390)


class MemoryStores(Stores):
    """Registries in memory, by host."""

    def __init__(self) -> None:
        super().__init__(RegistryAccess(), state_directory="/nonexistent")
        self.hosts = {host: MemoryStore(host) for host in ("a.example", "b.example")}

    def open(self, reference: ImageReference, *, for_write: bool = False) -> tuple[ImageStore, RepositoryName]:
        if isinstance(reference, LayoutReference):
            return super().open(reference, for_write=for_write)
        return self.hosts[reference.host], reference.repository

    async def digest(self, image: str) -> Digest | None:
        reference = parse_image(image, field="")
        assert isinstance(reference, RegistryReference)
        assert reference.tag is not None
        found = await self.hosts[reference.host].head_manifest(reference.repository, reference.tag)
        return found.digest if found else None


@pytest.fixture
def stores() -> MemoryStores:
    return MemoryStores()


def task(source: str, target: str, selection: TagSelection | None = None, **terms: object) -> CopyTask:
    return CopyTask(parse_image(source, field="SOURCE"), parse_image(target, field="TARGET"), selection, **terms)  # type: ignore[arg-type]


async def run(stores: Stores, *tasks: CopyTask, **options: object) -> list[CopyResult]:
    return await DirectCopier(stores, CopyOptions(**options)).run(tasks)  # type: ignore[arg-type]


async def test_a_target_without_a_tag_gets_the_tag_of_the_source(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app"))

    assert (result.source, result.target) == ("a.example/team/app:v1", "b.example/release/app:v1")
    assert (result.status, result.digest, code_of(result)) == ("copied", image().digest, 0)
    assert await stores.digest("b.example/release/app:v1") == image().digest


async def test_a_source_without_a_tag_is_the_latest_image(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), Tag("latest"))

    await run(stores, task("a.example/team/app", "b.example/release/app"))

    assert await stores.digest("b.example/release/app:latest") == image().digest


async def test_a_digest_decides_and_the_tag_names_the_copy(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(seed="old"), V1)
    await push(stores.hosts["a.example"], APP, image(seed="new"), V1)
    old = image(seed="old").digest

    await run(stores, task(f"a.example/team/app:v1@{old}", "b.example/release/app"))

    assert await stores.digest("b.example/release/app:v1") == old


async def test_a_digest_alone_needs_a_tag_for_the_copy(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)

    (result,) = await run(stores, task(f"a.example/team/app@{image().digest}", "b.example/release/app"))

    assert result.reason.startswith("TARGET must have a tag, because SOURCE has none")
    assert code_of(result) == 2


async def test_selected_tags_are_copied_under_their_own_names(stores: MemoryStores):
    for tag in ("v1", "v2", "v2-rc", "edge"):
        await push(stores.hosts["a.example"], APP, image(seed=tag), Tag(tag))
    selection = TagSelection(patterns=(Pattern("v.*"),), excluded=(Pattern(".*-rc"),))

    results = await run(stores, task("a.example/team/app", "b.example/release/app", selection))

    assert {result.target for result in results} == {"b.example/release/app:v1", "b.example/release/app:v2"}


async def test_bytes_that_several_tags_share_are_counted_once(stores: MemoryStores):
    for tag in (V1, V2):
        await push(stores.hosts["a.example"], APP, MULTI, tag)

    results = await run(stores, task("a.example/team/app", "b.example/release/app", TagSelection()))

    assert [one.status for one in results] == ["copied", "copied"]
    assert sum(one.size for one in results) == sum(map(len, MULTI.all_blobs.values()))


async def test_tags_of_signatures_are_copied_with_their_images_only(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)
    signature = cosign_tags(image().digest)[0]
    await push(stores.hosts["a.example"], APP, image(seed="signature"), signature)
    every = TagSelection()
    stores.hosts["a.example"].counts.clear()

    with_them = await run(stores, task("a.example/team/app", "b.example/with/them", every))
    without = await run(stores, task("a.example/team/app", "b.example/with/out", every, referrers=False))

    assert len(with_them) == len(without) == 1
    assert await stores.digest(f"b.example/with/them:{signature}") is not None
    assert await stores.digest(f"b.example/with/out:{signature}") is None
    assert stores.hosts["a.example"].counts["list_tags_within"] == 0, "the tags are listed already"


@pytest.mark.parametrize(("override", "exists", "requests"), [(True, False, 0), (True, True, 3), (False, False, 3)])
async def test_a_repository_that_does_not_exist_answers_for_all_its_tags_at_once(
    stores: MemoryStores, override: bool, exists: bool, requests: int
):
    for tag in ("v1", "v2", "v3"):
        await push(stores.hosts["a.example"], APP, image(seed=tag), Tag(tag))
    if exists:
        await push(stores.hosts["b.example"], COPY, image(seed="other"), Tag("v0"))
    target = stores.hosts["b.example"]
    target.counts.clear()

    await run(stores, task("a.example/team/app", "b.example/release/app", TagSelection()), override=override)

    assert target.counts["head_manifest"] == requests
    assert [tag async for tag in target.list_tags(COPY)] == [*(["v0"] if exists else []), "v1", "v2", "v3"]


@pytest.mark.parametrize("exists", [False, True])
async def test_a_repository_that_had_tags_before_is_not_asked_for_them(stores: MemoryStores, exists: bool):
    for tag in ("v1", "v2"):
        await push(stores.hosts["a.example"], APP, image(seed=tag), Tag(tag))
    if exists:
        await push(stores.hosts["b.example"], COPY, image(seed="v1"), V1)
    target = stores.hosts["b.example"]
    target.counts.clear()

    results = await run(
        stores, task("a.example/team/app", "b.example/release/app", TagSelection()), target_has_tags=True
    )

    assert target.counts["list_tags_within"] == 0
    assert sorted(result.status for result in results) == ["copied", "up_to_date" if exists else "copied"]
    assert [tag async for tag in target.list_tags(COPY)] == ["v1", "v2"]


async def test_a_selection_that_matches_nothing_fails(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)
    nothing = TagSelection(patterns=(Pattern("x"),))

    (result,) = await run(stores, task("a.example/team/app", "b.example/release/app", nothing))

    assert (result.status, code_of(result)) == ("failed", 3)
    assert result.reason == "nothing to copy from a.example/team/app: none of its tags is selected"


async def test_what_the_source_lacks_is_named_with_its_registry(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)
    await push(stores.hosts["b.example"], APP, image(seed="same name"), Tag("v9"))

    (tag,) = await run(stores, task("a.example/team/app:v9", "b.example/team/app:v9"))

    assert (tag.status, code_of(tag)) == ("failed", 3)
    assert tag.reason == 'tag "a.example/team/app:v9" does not exist'


async def test_another_image_is_kept_without_override(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(seed="new"), V1)
    await push(stores.hosts["b.example"], COPY, image(seed="old"), V1)
    copy = task("a.example/team/app:v1", "b.example/release/app")

    (kept,) = await run(stores, copy, override=False)
    (replaced,) = await run(stores, copy, override=True)

    assert (kept.status, code_of(kept), replaced.status) == ("existed", 4, "copied")


async def test_one_platform_is_copied_as_the_image_itself(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, MULTI, V1)
    await push(stores.hosts["a.example"], APP, artifact(subject=ARM.manifest))

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app", platforms=("linux/arm64/v8",)))

    assert await stores.digest("b.example/release/app:v1") == ARM.digest == result.digest
    target = stores.hosts["b.example"]
    assert [one.digest for one in await target.list_referrers(COPY, ARM.digest)] == [
        artifact(subject=ARM.manifest).digest
    ]
    assert await target.head_manifest(COPY, AMD.digest) is None


async def test_several_platforms_are_copied_as_a_new_index(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, MULTI, V1)
    platforms = ("linux/arm64", "linux/amd64")

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app", platforms=platforms))
    (again,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app", platforms=platforms))

    manifest = await stores.hosts["b.example"].get_manifest(COPY, V1)
    assert manifest.media_type == OCI_INDEX
    assert [child.digest for child in manifest.children] == [AMD.digest, ARM.digest]
    assert result.reason == ""
    assert result.left_behind == (S390.digest,)
    assert again.status == "up_to_date"


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (MULTI, "the image has no linux/riscv64; it has linux/amd64, linux/arm64, linux/s390x"),
        (AMD, "the image is for linux/amd64 only, and not for linux/riscv64"),
    ],
    ids=["index", "image"],
)
async def test_a_platform_that_the_image_lacks_fails(stores: MemoryStores, sample: object, reason: str):
    await push(stores.hosts["a.example"], APP, sample, V1)  # type: ignore[arg-type]

    for platforms in (("linux/riscv64",), ("linux/amd64", "linux/riscv64")):
        (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app", platforms=platforms))

        assert (result.status, result.reason, code_of(result)) == ("failed", reason, 3)
        assert await stores.digest("b.example/release/app:v1") is None


async def test_an_image_of_the_platform_is_copied_as_it_is(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, AMD, V1)

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app", platforms=("linux/amd64",)))

    assert result.digest == AMD.digest


async def test_a_dry_run_says_what_a_copy_would_do_and_writes_nothing(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)
    tasks = [
        task("a.example/team/app:v1", "b.example/release/app"),
        task("a.example/team/app:nope", "b.example/release/app"),
    ]

    first, second = sorted(await run(stores, *tasks, dry_run=True), key=lambda one: one.status)

    assert (first.status, second.status) == ("failed", "to_copy")
    assert second.size == sum(map(len, image().all_blobs.values()))
    assert second.digest == image().digest
    assert await stores.digest("b.example/release/app:v1") is None


async def test_a_failing_image_does_not_stop_the_others(stores: MemoryStores):
    await push(stores.hosts["a.example"], APP, image(), V1)

    results = await run(
        stores,
        task("a.example/team/app:nope", "b.example/release/app"),
        task("a.example/team/app:v1", "b.example/release/app"),
    )

    assert {result.status for result in results} == {"failed", "copied"}
    assert combined([code_of(result) for result in results]) == 3


@pytest.mark.parametrize(
    ("error", "option"),
    [
        (Unavailable("cannot connect to https://a.example: the server does not speak TLS"), "--plain-http HOST"),
        (Untrusted("cannot connect to https://a.example: certificate has expired"), "as it is with --insecure HOST"),
        (Untrusted("cannot connect to https://a.example: certificate is for another host name"), "--insecure HOST"),
        (
            Untrusted("cannot connect to https://a.example: certificate is signed by an unknown authority"),
            "trust its authority with --ca-file FILE, or add --insecure HOST",
        ),
        (
            Untrusted("proxy http://p.example:3128 refused the connection to a.example:443: 407 Proxy Authentication"),
            "http://USER:PASSWORD@HOST:PORT",
        ),
        (
            Untrusted("cannot connect to https://a.example: the server refused the client certificate"),
            "client.key in HOST of --certs-dir DIR",
        ),
        (Untrusted("proxy http://p.example:3128 refused the connection to a.example:443: 403 Forbidden"), "Forbidden"),
    ],
)
async def test_an_error_of_tls_names_the_option_that_helps(stores: MemoryStores, error: TagferryError, option: str):
    class Failing(MemoryStore):
        async def head_manifest(self, *_arguments: object, **_terms: object) -> Descriptor | None:
            raise error

    stores.hosts["b.example"] = Failing("b.example")

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app"))

    assert result.reason.startswith(error.message)
    assert result.reason.endswith(option)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (manifest_refused("b.example", image().manifest).message, "hint"),
        ("the tag is no index; delete that tag there, or set sync.referrers to false", "or add --no-referrers"),
        (
            "the server requires a client certificate; set client_certificate and client_key",
            "put client.cert and client.key into HOST of --certs-dir DIR",
        ),
        ("signed by an unknown authority; set ca_file to trust it", "signed by an unknown authority"),
    ],
    ids=["format", "referrers", "client certificate", "authority"],
)
async def test_no_error_names_a_setting_that_a_copy_does_not_read(stores: MemoryStores, message: str, reason: str):
    await push(stores.hosts["a.example"], APP, image(), V1)

    async def fail(*args: object, **kwargs: object) -> None:
        raise Unsupported(message)

    stores.hosts["b.example"].put_manifest = fail  # type: ignore[method-assign]

    (result,) = await run(stores, task("a.example/team/app:v1", "b.example/release/app"))

    assert result.status == "failed"
    assert result.reason.endswith("within the last minutes" if reason == "hint" else reason)
    assert "[regions" not in result.reason


def result_of(error: TagferryError | None) -> CopyResult:
    return CopyResult(source="a", target="b", status="failed" if error else "copied", error=error)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([None], 0),
        ([NotFound("tag", "x")], 3),
        ([Conflict("name", "x")], 4),
        ([Unavailable("x")], 6),
        ([Untrusted("x"), Unavailable("y"), None], 6),
        ([Refused("x")], 7),
        ([StorageUnavailable("the disk is full")], 3),
        ([Refused("x"), Unavailable("y")], 3),
    ],
)
def test_the_exit_code_is_that_of_the_failures_if_they_agree(errors: list[TagferryError | None], code: int):
    assert combined([code_of(result_of(error)) for error in errors]) == code


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000", 1000),
        ("500kB", 5e5),
        ("20MB", 2e7),
        ("20 MB/s", 2e7),
        ("1.5M", 1.5e6),
        ("1GiB", 2**30),
        ("1gib/s", 2**30),
    ],
)
def test_a_rate_is_written_with_decimal_or_binary_units(text: str, rate: float):
    assert parse_rate(text, field="--bandwidth") == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "1 parsec", "0.1"])
def test_a_wrong_rate_is_refused(text: str):
    with pytest.raises(Invalid, match="--bandwidth must be a number of bytes per second"):
        parse_rate(text, field="--bandwidth")


def test_sizes_are_short():
    assert [format_size(size) for size in (0, 999, 1000, 12_345_678, 10**18)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "1000.0 PB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "platform"),
    [("linux/amd64", "linux/amd64"), ("amd64", "linux/amd64"), ("Linux/ARM64/v8", "linux/arm64/v8")],
)
def test_a_platform_is_written_with_or_without_its_operating_system(text: str, platform: str):
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d", "/amd64"])
def test_a_wrong_platform_is_refused(text: str):
    with pytest.raises(Invalid, match="--platform must have the form os/architecture"):
        parse_platform(text)
