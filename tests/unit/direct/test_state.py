"""A copy remembers facts for the next one, in files."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tagferry.direct.state import KEPT_SECONDS, FileCapabilities, FileUploadCheckpoints
from tagferry.direct.state_file import StateFile, file_name, state_directory
from tagferry.names import Digest, RepositoryName
from tagferry.remote.capabilities import Capabilities

APP, DIGEST = RepositoryName("team/app"), Digest.of(b"a blob")
LOCATION = "https://registry.example.com/v2/team/app/blobs/uploads/1?_state=secret"


def checkpoints(folder: Path, registry: str = "https://registry.example.com") -> FileUploadCheckpoints:
    return FileUploadCheckpoints(str(folder / "uploads"), registry)


async def test_a_session_is_found_by_the_next_process_and_no_other_registry(tmp_path: Path):
    await checkpoints(tmp_path).save(APP, DIGEST, LOCATION)

    assert await checkpoints(tmp_path).load(APP, DIGEST) == LOCATION
    assert await checkpoints(tmp_path, "https://other.example.com").load(APP, DIGEST) is None
    assert await checkpoints(tmp_path).load(RepositoryName("team/other"), DIGEST) is None


async def test_a_finished_session_leaves_no_file(tmp_path: Path):
    kept = checkpoints(tmp_path)
    await kept.save(APP, DIGEST, LOCATION)

    await kept.clear(APP, DIGEST)

    assert await kept.load(APP, DIGEST) is None
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_only_the_user_can_read_a_session(tmp_path: Path):
    await checkpoints(tmp_path).save(APP, DIGEST, LOCATION)

    (file,) = (tmp_path / "uploads").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0


async def test_an_old_session_is_forgotten_and_deleted(tmp_path: Path):
    await checkpoints(tmp_path).save(APP, DIGEST, LOCATION)
    (file,) = (tmp_path / "uploads").iterdir()
    before = file.stat().st_mtime - KEPT_SECONDS - 1
    os.utime(file, (before, before))

    assert await checkpoints(tmp_path).load(APP, DIGEST) is None
    await checkpoints(tmp_path).save(APP, Digest.of(b"other"), LOCATION)
    assert file.name not in {one.name for one in (tmp_path / "uploads").iterdir()}


async def test_an_unreadable_or_damaged_file_is_no_session(tmp_path: Path):
    kept = checkpoints(tmp_path)
    await kept.save(APP, DIGEST, LOCATION)
    (file,) = (tmp_path / "uploads").iterdir()

    for content in (b"", b"[]", b'{"location": 1}', b"\xff"):
        file.write_bytes(content)
        assert await kept.load(APP, DIGEST) is None


async def test_a_directory_that_cannot_be_made_only_costs_the_session(tmp_path: Path):
    (tmp_path / "uploads").write_text("a file")

    await checkpoints(tmp_path).save(APP, DIGEST, LOCATION)

    assert await checkpoints(tmp_path).load(APP, DIGEST) is None
    await checkpoints(tmp_path).clear(APP, DIGEST)


def test_the_sessions_are_where_the_base_directory_specification_puts_them():
    assert state_directory({"XDG_STATE_HOME": "/srv/state"}) == "/srv/state/tagferry"
    assert state_directory({}).endswith("/.local/state/tagferry")


def capabilities(folder: Path, registry: str = "https://registry.example.com") -> FileCapabilities:
    return FileCapabilities(StateFile(f"{folder}/registries", registry))


async def test_what_a_registry_supports_is_known_to_the_next_process_and_to_no_other_registry(tmp_path: Path):
    learned = Capabilities(lists_referrers=False, whole_limit=7, accepted_classes=frozenset({"image"}))
    await capabilities(tmp_path).save(learned)

    assert await capabilities(tmp_path).load() == learned
    assert await capabilities(tmp_path, "https://other.example.com").load() == Capabilities()


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b'{"learned_at": 5}', b'{"accepted_classes": 5}', b'{"refused_classes": {"a": "b"}}', b"[" * 9999],
)
async def test_a_damaged_file_is_no_capability(tmp_path: Path, content: bytes):
    await capabilities(tmp_path).save(Capabilities(lists_referrers=False))
    (file,) = (tmp_path / "registries").iterdir()
    file.write_bytes(content)

    assert await capabilities(tmp_path).load() == Capabilities()


def test_writers_at_once_leave_a_whole_document(tmp_path: Path):
    file, documents = StateFile(str(tmp_path), "a"), [{"number": [number] * 1000} for number in range(30)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(file.save, documents))

    assert file.load() in documents
    assert len(list(tmp_path.iterdir())) == 1


def test_a_document_that_was_not_written_for_months_is_deleted(tmp_path: Path):
    now = [time.time()]
    documents = [StateFile(str(tmp_path), str(number), clock=lambda: now[0]) for number in range(3)]

    def have_old_ones() -> None:
        for document, age in zip(documents, (91, 88, 0), strict=True):
            document.save({"a": 1})
            path = tmp_path / file_name(str(documents.index(document)))
            os.utime(path, (now[0] - age * 86400, now[0] - age * 86400))

    have_old_ones()
    now[0] += 86399
    documents[2].save({"a": 2})
    assert [document.load() for document in documents] == [{"a": 1}, {"a": 1}, {"a": 2}]
    now[0] += 1
    documents[2].save({"a": 3})
    assert [document.load() for document in documents] == [{}, {"a": 1}, {"a": 3}]
    # A clock that was set back does not stop the search.
    have_old_ones()
    now[0] -= 3600
    documents[2].save({"a": 4})
    assert documents[0].load() == {}
