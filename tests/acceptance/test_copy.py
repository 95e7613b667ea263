"""`tagferry copy` between real registries, OCI layouts and archives, with skopeo as the witness."""

import asyncio
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tagferry.direct.state_file import file_name
from tagferry.layout import DirectoryFiles, LayoutStore
from tagferry.names import RepositoryName, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tests.support.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.support.images import SampleImage, artifact, image, index, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.programs import require_program, skopeo_environment
from tests.support.serving import serving

PROGRAM = Path(sys.executable).with_name("tagferry")
APP, MULTI, V1 = RepositoryName("team/app"), Tag("multi"), Tag("v1")
INDEX, PLAIN = index(), image(seed="plain")
_PATIENCE = 120
MIB = 1024 * 1024


@dataclass(frozen=True)
class Two:
    """Two registries; the first has some images."""

    folder: Path
    source: str
    target: str

    def copy(self, *arguments: str, **terms: Any) -> subprocess.CompletedProcess[str]:
        return copy(self.folder, "--plain-http", self.source, "--plain-http", self.target, *arguments, **terms)

    def manifest(self, image: str) -> str:
        """Let skopeo read and verify an image, and return its digest."""
        command = [require_program("skopeo"), "inspect", "--raw", "--tls-verify=false", image]
        raw = subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE).stdout
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    def skopeo_copy(self, source: str, target: str) -> None:
        tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        command = [require_program("skopeo"), "copy", "--quiet", "--all", *tls, source, target]
        environment = skopeo_environment(self.folder / "skopeo")
        subprocess.run(command, check=True, timeout=_PATIENCE, env=environment, cwd=self.folder)


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}


def copy(
    folder: Path, *arguments: str, more: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "copy", *arguments],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        cwd=folder,
        input=text,
        env=environment(folder) | dict(more or {}),
    )


async def fill(url: str, samples: Mapping[Tag, SampleImage]) -> None:
    store = RemoteStore(Endpoint(name="filler", url=url))
    for tag, sample in samples.items():
        await push(store, APP, sample, tag)
    await push(store, APP, artifact(subject=INDEX.manifest))
    await store.close()


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DockerRegistry, DockerRegistry]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("source", "target")]
    with docker_registry(folders[0]) as source, docker_registry(folders[1]) as target:
        asyncio.run(fill(source.url, {MULTI: INDEX, V1: PLAIN}))
        yield source, target


@pytest.fixture
def two(registries: tuple[DockerRegistry, DockerRegistry], tmp_path: Path) -> Two:
    source, target = (registry.url.removeprefix("http://") for registry in registries)
    return Two(tmp_path, source, target)


async def test_what_a_registry_lacks_is_not_asked_for_again_by_the_next_run(
    two: Two, registries: tuple[DockerRegistry, DockerRegistry]
):
    arguments = f"{two.source}/team/app:v1", f"{two.target}/remembered/app"
    asked: list[list[int]] = []
    for _ in range(3):
        for registry in registries:
            registry.forget_requests()
        assert (await asyncio.to_thread(two.copy, *arguments)).returncode == 0
        asked.append([len(await registry.requests()) for registry in registries])

    assert asked[1] == asked[2]
    shutil.rmtree(two.folder / "state/tagferry/registries")
    for registry in registries:
        registry.forget_requests()
    assert (await asyncio.to_thread(two.copy, *arguments)).returncode == 0
    assert sum([len(await registry.requests()) for registry in registries]) > sum(asked[2])


def test_an_archive_in_dockers_older_format_is_copied(two: Two):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest]}})
    listed = [{"Config": "config.json", "RepoTags": ["team/old:v1"], "Layers": ["layer.tar"]}]
    files = {
        "config.json": config.encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(listed).encode(),
    }
    with tarfile.open(two.folder / "old.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    # skopeo can read it, and what is made of it.
    two.skopeo_copy("docker-archive:old.tar", f"docker://{two.target}/old/app:by-skopeo")

    first = two.copy("old.tar", f"{two.target}/old/app")
    second = two.copy(f"docker-archive:{two.folder}/old.tar:team/old:v1", f"{two.target}/old/app")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert second.stdout.startswith("up to date")
    assert two.manifest(f"docker://{two.target}/old/app:v1") in first.stdout
    two.skopeo_copy(f"docker://{two.target}/old/app:v1", "docker-archive:again.tar")
    with tarfile.open(two.folder / "again.tar") as tar:
        assert [tar.extractfile(one).read() for one in tar if one.size == len(layer.getvalue())] == [layer.getvalue()]  # type: ignore[union-attr]


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["lines", "json"])
def test_copies_go_on_when_their_results_cannot_be_printed(tmp_path: Path, more: list[str]):
    source = LayoutStore(DirectoryFiles(tmp_path / "source"), name="")
    for number in range(20):
        asyncio.run(push(source, APP, image(seed=str(number)), Tag(f"v{number}")))
    full, ended = Path("/dev/full"), os.pipe()
    os.close(ended[0])
    with full.open("wb") as disk, os.fdopen(ended[1], "wb") as pipe:
        for output, code, said in ((disk, 3, "standard output: No space left on device"), (pipe, 0, "")):
            target = f"oci-archive:target-{code}.tar"
            done = subprocess.run(
                [PROGRAM, "copy", "-a", *more, "oci:source", target], stdout=output, stderr=subprocess.PIPE, text=True,
                timeout=_PATIENCE, cwd=tmp_path, env=environment(tmp_path), check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            assert said in done.stderr
            assert "Traceback" not in done.stderr
            assert "Exception" not in done.stderr
            again = copy(tmp_path, "-a", "oci:source", target)
            assert [line.split("  ")[0] for line in again.stdout.splitlines()] == ["up to date"] * 20


def test_all_tags_are_copied_between_registries(two: Two):
    first = two.copy("--all-tags", f"{two.source}/team/app", f"{two.target}/all/app")
    second = two.copy("--all-tags", f"{two.source}/team/app", f"{two.target}/all/app", "--json")

    assert first.returncode == second.returncode == 0, first.stderr
    assert sorted(line.split()[:2] for line in first.stdout.splitlines()) == [
        ["copied", f"{two.target}/all/app:multi"],
        ["copied", f"{two.target}/all/app:v1"],
    ]
    assert {one["target"]: (one["status"], one["digest"]) for one in json.loads(second.stdout)} == {
        f"{two.target}/all/app:multi": ("up_to_date", INDEX.digest),
        f"{two.target}/all/app:v1": ("up_to_date", PLAIN.digest),
    }
    assert two.manifest(f"docker://{two.target}/all/app:multi") == INDEX.digest


def test_a_copy_leaves_to_the_next_one_how_many_connections_it_needed(two: Two):
    arguments = "--all-tags", f"{two.source}/team/app", f"{two.target}/next/app"
    for status in ("copied", "up to date", "up to date"):
        done = two.copy(*arguments)
        assert done.returncode == 0, done.stderr
        assert {line.partition("  ")[0] for line in done.stdout.splitlines()} == {status}
        (document,) = (two.folder / "state/tagferry/copies").iterdir()
        remembered = json.loads(document.read_text())
        assert remembered["has_tags"] is True
        assert set(remembered["connections"]) == {two.source, two.target}
    assert 2 <= remembered["connections"][two.target] <= 8
    two.copy("--all-tags", "--dry-run", f"{two.source}/team/app", f"{two.target}/next/app")
    assert json.loads(document.read_text()) == remembered


def test_a_copy_to_a_registry_that_was_emptied_is_complete(two: Two, tmp_path: Path):
    arguments = "--all-tags", "--json", f"{two.source}/team/app"
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    with docker_registry(folders[0]) as first:
        host = first.url.removeprefix("http://")
        assert two.copy(*arguments, f"{host}/x/app", "--plain-http", host).returncode == 0
    (document,) = (two.folder / "state/tagferry/copies").iterdir()
    with docker_registry(folders[1]) as second:
        other = second.url.removeprefix("http://")
        # The second registry stands for the first one, whose content was lost.
        name = file_name(f"{two.source}/team/app {other}/x/app tags")
        document.with_name(name).write_text(document.read_text().replace(host, other))
        done = two.copy(*arguments, f"{other}/x/app", "--plain-http", other)
        assert done.returncode == 0, done.stderr
        assert {one["status"] for one in json.loads(done.stdout)} == {"copied"}
        assert two.manifest(f"docker://{other}/x/app:multi") == INDEX.digest


@pytest.mark.parametrize("layout", ["oci:images", "oci-archive:images.tar"])
def test_skopeo_reads_what_tagferry_writes(two: Two, layout: str):
    written = two.copy("--all-tags", f"{two.source}/team/app", layout)
    two.skopeo_copy(f"{layout}:multi", f"docker://{two.target}/by/skopeo:multi")

    assert written.returncode == 0, written.stderr
    assert two.manifest(f"docker://{two.target}/by/skopeo:multi") == INDEX.digest


@pytest.mark.parametrize(
    ("layout", "source"),
    [
        ("oci:images:multi", "./images"),
        ("oci-archive:images.tar:multi", "images.tar"),
        ("oci:images:x/y:v7", "./images"),
    ],
)
def test_tagferry_reads_what_skopeo_writes(two: Two, layout: str, source: str):
    two.skopeo_copy(f"docker://{two.source}/team/app:multi", layout)

    read = two.copy(source, f"docker://{two.target}/by/tagferry:multi")

    assert read.returncode == 0, read.stderr
    assert two.manifest(f"docker://{two.target}/by/tagferry:multi") == INDEX.digest


def test_signatures_survive_the_way_through_an_archive(two: Two):
    first = two.copy(f"{two.source}/team/app:multi", "images.tar")
    second = two.copy("images.tar:multi", f"{two.target}/from/archive")
    third = two.copy(f"{two.target}/from/archive:multi", "oci:images")

    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 0), first.stderr + second.stderr
    blobs = {path.name for path in (two.folder / "images/blobs/sha256").iterdir()}
    assert artifact(subject=INDEX.manifest).digest.encoded in blobs


def test_a_list_is_read_from_a_file_or_standard_input(two: Two):
    lines = f"# ours\n{two.source}/team/app:v1 {two.target}/listed/app\n"
    (two.folder / "sync.yaml").write_text(f"{two.source}:\n  images: {{team/app: [multi]}}\n")

    by_lines = two.copy("--from", "-", text=lines)
    by_skopeo = two.copy("--from", "sync.yaml", f"{two.target}/mirror")

    assert (by_lines.returncode, by_skopeo.returncode) == (0, 0), by_lines.stderr + by_skopeo.stderr
    assert two.manifest(f"docker://{two.target}/listed/app:v1") == PLAIN.digest
    assert two.manifest(f"docker://{two.target}/mirror/app:multi") == INDEX.digest


def test_exit_codes_tell_failures_apart(two: Two):
    assert two.copy(f"{two.source}/team/app:v1", f"{two.target}/codes/app:v1").returncode == 0
    codes = {
        "a tag": two.copy(f"{two.source}/team/app:nope", f"{two.target}/codes/app"),
        "existed": two.copy("--no-override", f"{two.source}/team/app:multi", f"{two.target}/codes/app:v1"),
        "unreachable": two.copy("--plain-http", "127.0.0.1:1", "127.0.0.1:1/a:b", f"{two.target}/codes/app"),
        "a reference": two.copy("UPPER", f"{two.target}/codes/app"),
        "one argument": two.copy(f"{two.source}/team/app:v1"),
        "an option": two.copy("--nonsense"),
        "a file": two.copy("--from", "nothing.txt"),
    }

    assert {name: done.returncode for name, done in codes.items()} == {
        "a tag": 3,
        "existed": 4,
        "unreachable": 6,
        "a reference": 2,
        "one argument": 2,
        "an option": 2,
        "a file": 2,
    }
    assert all(done.stderr and not done.stdout for done in codes.values())


def test_credentials_come_from_the_configuration_of_docker(two: Two, tmp_path: Path):
    (tmp_path / "private").mkdir()
    with docker_registry(tmp_path / "private", auth=True) as private:
        host = private.url.removeprefix("http://")
        arguments = ("--plain-http", host, f"{two.source}/team/app:v1", f"{host}/team/app")
        without = two.copy(*arguments)
        (tmp_path / ".docker").mkdir()
        login = {"username": USERNAME, "password": PASSWORD}
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {host: login}}))
        with_them = two.copy(*arguments)
        (tmp_path / "other.json").write_text("{}")
        other = two.copy("--docker-config", "other.json", *arguments)

    assert (without.returncode, with_them.returncode, other.returncode) == (7, 0, 7), with_them.stderr


@dataclass
class Received:
    """The bytes of bodies that a registry has received.

    Attributes:
        mark: the number of bytes at which `reached` is set.
    """

    size: int = 0
    mark: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, size: int) -> None:
        """Wait until this many more bytes have arrived."""
        self.mark = self.size + size
        self.reached.clear()
        await self.reached.wait()

    def counted(self, app: Any) -> Any:
        async def counting(scope: Any, receive: Any, send: Any) -> None:
            async def counted() -> Any:
                message = await receive()
                self.size += len(message.get("body", b""))
                if self.size >= self.mark:
                    self.reached.set()
                return message

            await app(scope, counted, send)

        return counting


@asynccontextmanager
async def receiving(folder: Path) -> AsyncIterator[tuple[str, Received]]:
    received, store = Received(), await DiskStore.open(folder)
    async with serving(received.counted(RegistryApp(store, OpenAuthorizer()))) as url:
        yield url.removeprefix("http://"), received
    await store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_an_interrupted_copy_sends_at_most_one_chunk_of_a_layer_again(
    two: Two, tmp_path: Path, number: signal.Signals
):
    big = image(secrets.token_bytes(40 * MIB), secrets.token_bytes(20 * MIB))
    (tmp_path / "big").mkdir()
    async with receiving(tmp_path / "received") as (target, received):
        with docker_registry(tmp_path / "big") as registry:
            await fill(registry.url, {V1: big})
            source = registry.url.removeprefix("http://")
            arguments = ["--plain-http", source, "--plain-http", target, f"{source}/team/app:v1", f"{target}/team/app"]
            for _ in range(3):
                process = await asyncio.create_subprocess_exec(
                    PROGRAM, "copy", "--bandwidth", "20MB", *arguments, env=environment(tmp_path),
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                await received.more(12 * MIB)
                process.send_signal(number)
                assert await process.wait() == (130 if number is signal.SIGTERM else -number)
            done = await asyncio.to_thread(copy, tmp_path, *arguments)

        assert done.returncode == 0, done.stderr
        size = sum(map(len, big.all_blobs.values()))
        again = received.size - size - sum(len(manifest.raw) for manifest in big.all_manifests)
        assert again <= len(big.manifest.layers) * Endpoint(name="", url="http://any").chunk_size
