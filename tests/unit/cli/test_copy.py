"""`tagferry copy` between OCI layouts."""

import asyncio
import gzip
import io
import json
from pathlib import Path

import pytest

from tagferry.cli.copy import main
from tagferry.cli.copy_display import CopyDisplay
from tagferry.copy.progress import Progress, Transfer
from tagferry.direct.results import CopyResult
from tagferry.direct.runner import CopyOptions, DirectCopier
from tagferry.direct.stores import RegistryAccess, Stores
from tagferry.layout import ArchiveFiles, DirectoryFiles, LayoutStore
from tagferry.names import RepositoryName, Tag
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.images import image, index, push

V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A layout with an image, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    asyncio.run(push(LayoutStore(DirectoryFiles(tmp_path / "source"), name=""), RepositoryName("any"), image(), V1))
    return "oci:source"


def test_results_are_printed_to_standard_output_and_nothing_else(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([f"{source}:v1", "oci:target"]) == 0

    shown = capsys.readouterr()
    assert shown.out.split() == ["copied", "oci:target:v1", image().digest, *shown.out.split()[3:]]
    assert shown.err == ""


def test_json_is_one_document_whatever_happens(source: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--json", f"{source}:v9", "oci:target"]) == 3

    (result,) = json.loads(capsys.readouterr().out)
    assert (result["status"], result["digest"]) == ("failed", None)
    assert "it has v1" in result["reason"]


def test_options_may_stand_between_source_and_target(source: str):
    assert main([source, "--all-tags", "target.tar"]) == 0
    assert Path("target.tar").exists()


def test_a_tag_beside_a_digest_names_the_copy_of_a_layout(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([f"{source}:v1@{image().digest}", "oci:target"]) == 0
    assert "oci:target:v1" in capsys.readouterr().out


def test_a_signed_image_goes_through_an_archive_by_its_only_tag(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    signature = cosign_tags(image().digest)[0]
    store = LayoutStore(DirectoryFiles(tmp_path / "source"), name="")
    asyncio.run(push(store, RepositoryName("any"), image(seed="signature"), signature))

    assert main([f"{source}:v1", "signed.tar"]) == 0
    assert main(["signed.tar", "oci:target"]) == 0

    target = LayoutStore(DirectoryFiles(tmp_path / "target"), name="")
    tags = asyncio.run(target.describe_tags(RepositoryName("any")))
    assert {one.tag for one in tags} == {V1, signature}
    assert main(["signed.tar:v9", "oci:target"]) == 3
    assert "; it has v1\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (("oci:source@{digest}", "oci:target"), "TARGET must have a tag, because SOURCE has none"),
        (("oci:source:v1", "oci:target:b/x"), "TARGET must have a tag as its name"),
        (
            ("oci-archive:source", "oci:target"),
            "oci-archive:source must be a file; for a layout in a directory, write oci:",
        ),
        (("broken.tar", "oci:target"), "archive must be a tar file"),
        (("compressed.tar", "oci:target"), "archive must not be compressed"),
    ],
)
def test_an_argument_that_cannot_be_used_is_wrong_usage(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], images: tuple[str, str], message: str
):
    (tmp_path / "broken.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "compressed.tar").write_bytes(gzip.compress(b"an archive"))

    assert main([one.format(digest=image().digest) for one in images]) == 2
    assert message in capsys.readouterr().err


def test_a_platform_that_is_named_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    amd, arm = (image(seed=name, platform=("linux", name)) for name in ("amd64", "arm64"))
    store = LayoutStore(DirectoryFiles(tmp_path / "source"), name="")
    asyncio.run(push(store, RepositoryName("any"), index(amd, arm), V1))

    assert main(["--platform", "linux/amd64", "--platform", "AMD64", "oci:source:v1", "oci:target"]) == 0

    target = LayoutStore(DirectoryFiles(tmp_path / "target"), name="")
    (tag,) = asyncio.run(target.describe_tags(RepositoryName("any")))
    assert tag.digest == amd.digest


def test_what_a_layout_lacks_is_named_by_its_path(source: str, capsys: pytest.CaptureFixture[str]):
    other = image(seed="other").digest

    assert main([f"{source}:v1@{other}", "oci:target"]) == 3
    assert f'manifest "oci:source@{other}" does not exist' in capsys.readouterr().err
    assert main(["missing.tar", "oci:target"]) == 3
    assert 'archive "oci-archive:missing.tar" does not exist' in capsys.readouterr().err


def test_a_list_from_standard_input_is_named_in_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\n")))

    assert main(["--from", "-"]) == 2
    assert capsys.readouterr().err.startswith("error: standard input, line 1, must be SOURCE TARGET")


def test_an_archive_that_cannot_be_written_fails(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(_archive: ArchiveFiles) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArchiveFiles, "commit", full)

    assert main([f"{source}:v1", "target.tar"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: oci-archive:target.tar:v1: cannot access oci-archive:target.tar: No space left")

    assert main(["--json", f"{source}:v1", "target.tar"]) == 3
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["status"], result["digest"]) == ("failed", None)
    assert "No space left" in result["reason"]


def test_a_copy_to_an_archive_is_printed_when_the_archive_is_there(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    shown, exists = CopyDisplay.result, list[bool]()

    def show(display: CopyDisplay, result: CopyResult) -> None:
        exists.append(Path("target.tar").exists())
        shown(display, result)

    monkeypatch.setattr(CopyDisplay, "result", show)

    assert main([f"{source}:v1", "target.tar"]) == 0
    assert exists == [True]
    assert capsys.readouterr().out.startswith("copied ")


def test_an_archive_that_cannot_be_written_spares_the_other_targets(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(_archive: ArchiveFiles) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArchiveFiles, "commit", full)
    Path("list.txt").write_text("oci:source:v1 full.tar\noci:source:v1 oci:target\n")

    assert main(["--from", "list.txt"]) == 3
    assert "oci:target:v1" in capsys.readouterr().out


def test_a_layout_that_lost_a_layer_is_repaired(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([f"{source}:v1", "oci:target"]) == 0
    for digest in image().all_blobs:
        lost = Path("target/blobs/sha256", digest.encoded)
        lost.unlink()
        capsys.readouterr()

        assert main([f"{source}:v1", "oci:target"]) == 0

        assert capsys.readouterr().out.startswith("copied ")
        assert lost.read_bytes() == image().all_blobs[digest]
    assert main([f"{source}:v1", "oci:target"]) == 0
    assert capsys.readouterr().out.startswith("up to date ")


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"?"])
def test_a_layout_with_a_damaged_manifest_is_repaired(
    source: str, capsys: pytest.CaptureFixture[str], damage: bytes | None
):
    platforms = index()
    asyncio.run(push(LayoutStore(DirectoryFiles(Path("source")), name=""), RepositoryName("any"), platforms, V2))
    for digest in (one.digest for one in platforms.all_manifests):
        assert main([f"{source}:v2", "oci:damaged"]) == 0
        damaged = Path("damaged/blobs/sha256", digest.encoded)
        content = damaged.read_bytes()
        damaged.unlink()
        if damage is not None:
            damaged.write_bytes(damage * len(content))
        capsys.readouterr()

        assert main([f"{source}:v2", "oci:damaged"]) == 0

        assert capsys.readouterr().out.startswith("copied ")
        assert damaged.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tags", "v.*", "oci:source:v1", "oci:target"], "SOURCE must name no tag if several tags are copied"),
        (["-a", "oci:source", "oci:target:v1"], "TARGET must name no tag if several tags are copied"),
        (["oci:source:v1", f"oci:target@{image().digest}"], "TARGET must name a tag; the digest is that of SOURCE"),
        (["--from", "list.txt", "a", "b"], "SOURCE must be omitted with --from"),
        (["oci:source:v1", "docker-archive:target.tar"], "TARGET must not use the transport docker-archive"),
        (["--from", "docker.txt"], "TARGET must not use the transport docker-archive"),
        (["--bandwidth", "fast", "oci:source:v1", "oci:target"], "--bandwidth: must be a number of bytes per second"),
        (["--ca-file", "nothing.pem", "oci:source:v1", "registry.example.com/app"], "--ca-file"),
        (["--certs-dir", "nothing", "oci:source:v1", "registry.example.com/app"], "--certs-dir: must be a directory"),
    ],
)
def test_wrong_usage_names_the_argument(
    source: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    Path("docker.txt").write_text("oci:source:v1 docker-archive:target.tar")

    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_tells_changes_from_none_if_it_is_asked_to(source: str, capsys: pytest.CaptureFixture[str]):
    copied = (f"{source}:v1", "oci:target")
    assert main(["--dry-run", *copied]) == 0
    assert main(["--dry-run", "--exit-code", *copied]) == 10
    assert main([*copied]) == 0
    assert main(["--dry-run", "--exit-code", *copied]) == 0
    assert main(["--dry-run", "--exit-code", f"{source}:v9", "oci:target"]) == 3
    capsys.readouterr()
    assert main(["--exit-code", *copied]) == 2
    assert capsys.readouterr().err == "error: --exit-code: needs --dry-run\n"


def test_the_progress_counts_blobs_that_begin_before_there_is_a_plan(capsys: pytest.CaptureFixture[str]):
    now = 0.0
    copier = DirectCopier(Stores(RegistryAccess(), state_directory="unused"), CopyOptions())
    copying = Progress()
    copying.early.append(Transfer(size=4_000))
    copying.early[0].count(1_000)
    copier.copies.append(copying)
    display = CopyDisplay(as_json=True, clock=lambda: now)

    now = 10.0
    display.progress(copier)

    assert capsys.readouterr().err == "progress: 0 of 0 images, 1.0 kB of 4.0 kB, 100 B/s\n"


def test_without_a_terminal_the_progress_is_one_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]):
    now = 0.0
    display = CopyDisplay(as_json=True, clock=lambda: now)
    copier = DirectCopier(Stores(RegistryAccess(), state_directory="unused"), CopyOptions())

    for second in range(25):
        now = float(second)
        display.progress(copier)

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "progress: 0 of 0 images, 0 B of 0 B, 0 B/s\n" * 2
