"""A layout that is written to: content counts as present once it was read, or if its file is as it was then."""

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from tagferry.cli.copy import main as run
from tagferry.layout.files import OpenFile
from tagferry.names import Tag
from tests.support.images import blob, image, opening, push
from tests.unit.layout.test_layout import ANY, V1, layout

TARGETS = pytest.mark.parametrize("target", ["oci:target", "oci-archive:target.tar"])
SAMPLE = image()
LAYER = max(SAMPLE.all_blobs, key=lambda digest: len(SAMPLE.all_blobs[digest]))


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout with one image in the working directory; what is remembered between runs is beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    asyncio.run(push(layout(Path("source")), ANY, SAMPLE, V1))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each read of a blob in a layout."""
    counts: list[int] = []
    read = OpenFile.read

    def counted(self: OpenFile, offset: int, length: int) -> bytes:
        chunk = read(self, offset, length)
        counts.append(len(chunk))
        return chunk

    monkeypatch.setattr(OpenFile, "read", counted)
    return counts


def copy(target: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Copy the image; return what was done."""
    capsys.readouterr()
    assert run(["oci:source:v1", target]) == 0
    return capsys.readouterr().out.partition("  ")[0].strip()


def file_of(target: str) -> Path:
    """Return the file with the layer's content."""
    path = Path(target.partition(":")[2])
    return path if path.is_file() else path / "blobs/sha256" / LAYER.encoded


def flip(path: Path, content: bytes) -> None:
    """Change a byte of content in a file, which keeps its size and modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        whole = file.read()
        file.seek(whole.index(content))
        file.write(bytes([content[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@TARGETS
def test_wrong_bytes_of_the_right_size_are_copied_again(target: str, capsys: pytest.CaptureFixture[str]):
    assert copy(target, capsys) == "copied"
    flip(file_of(target), SAMPLE.all_blobs[LAYER])

    assert copy(target, capsys) == "copied"
    assert SAMPLE.all_blobs[LAYER] in file_of(target).read_bytes()
    assert copy(target, capsys) == "up to date"


def test_a_dry_run_finds_wrong_bytes_and_leaves_them(capsys: pytest.CaptureFixture[str]):
    copy("oci:target", capsys)
    flip(file_of("oci:target"), SAMPLE.all_blobs[LAYER])
    damaged = file_of("oci:target").read_bytes()

    assert run(["--dry-run", "--json", "oci:source:v1", "oci:target"]) == 0

    (result,) = json.loads(capsys.readouterr().out)
    assert (result["status"], result["bytes"]) == ("to_copy", len(damaged))
    assert file_of("oci:target").read_bytes() == damaged


@TARGETS
def test_what_was_written_is_not_read_again_by_the_next_run(
    target: str, capsys: pytest.CaptureFixture[str], reads: list[int]
):
    copy(target, capsys)
    reads.clear()

    assert copy(target, capsys) == "up to date"

    assert len(SAMPLE.all_blobs[LAYER]) not in reads


def test_what_other_programs_wrote_is_read_once(capsys: pytest.CaptureFixture[str], reads: list[int]):
    asyncio.run(push(layout(Path("target")), ANY, SAMPLE, V1))
    for file in Path("target").rglob("*"):
        os.utime(file, (1, 1))
    reads.clear()

    assert copy("oci:target", capsys) == "up to date"

    assert reads.count(len(SAMPLE.all_blobs[LAYER])) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"sha256:1": 7, "x": [1, 2, 3, 4, 5], "y": ["a"]}'])
def test_damaged_files_of_stamps_are_no_problem(capsys: pytest.CaptureFixture[str], content: bytes):
    copy("oci:target", capsys)
    (kept,) = Path("state/tagferry/layouts").iterdir()
    kept.write_bytes(content)

    assert copy("oci:target", capsys) == "up to date"


def test_a_state_directory_that_cannot_be_used_costs_only_the_stamps(capsys: pytest.CaptureFixture[str]):
    Path("state").write_text("no directory")

    assert copy("oci:target", capsys) == "copied"
    assert copy("oci:target", capsys) == "up to date"


def test_the_stamps_of_two_processes_are_both_kept(capsys: pytest.CaptureFixture[str]):
    asyncio.run(push(layout(Path("source")), ANY, image(seed="other"), Tag("v2")))
    assert run(["oci:source:v1", "oci:target"]) == 0
    assert run(["oci:source:v2", "oci:target"]) == 0

    (kept,) = Path("state/tagferry/layouts").iterdir()
    assert set(json.loads(kept.read_bytes())) >= {*SAMPLE.all_blobs, *image(seed="other").all_blobs}
    assert kept.stat().st_mode & 0o077 == 0


async def test_a_caller_that_is_cancelled_does_not_wait_until_everything_is_read(monkeypatch: pytest.MonkeyPatch):
    content, store = bytes(3_000_000), layout(Path("target"))
    await store.write_blob(ANY, blob(content), opening(content))
    reading, proceed, read = threading.Event(), threading.Event(), OpenFile.read
    offsets: list[int] = []

    def slow(self: OpenFile, offset: int, length: int) -> bytes:
        offsets.append(offset)
        reading.set()
        proceed.wait(30)
        return read(self, offset, length)

    monkeypatch.setattr(OpenFile, "read", slow)
    asking = asyncio.create_task(layout(Path("target")).write_blob(ANY, blob(content), opening(content)))
    await asyncio.to_thread(reading.wait, 30)
    asking.cancel()
    await asyncio.sleep(0)
    proceed.set()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert offsets == [0]
