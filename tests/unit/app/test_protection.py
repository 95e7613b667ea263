"""Permissions of stored files, and the lock of a registry's directory."""

import asyncio
import errno
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from tagferry.app import open_accounts, open_app
from tagferry.errors import Unavailable
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.registry.storage.lock import RootLock
from tagferry.settings import Settings
from tests.support.disks import read_only
from tests.support.images import artifact, image, push
from tests.support.processes import free_port

REGION = RegionId("cn-north-4")
APP = RepositoryName("team/app")


def settings_in(folder: Path) -> Settings:
    return Settings.parse({"data_dir": folder, "regions": {REGION: {"listen": f"127.0.0.1:{free_port()}"}}})


def open_to_others(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): f"{stat.S_IMODE(path.stat().st_mode):o}"
        for path in (folder, *folder.rglob("*"))
        if path.stat().st_mode & 0o077
    }


@pytest.fixture
def generous_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("generous_umask")
async def test_stored_files_are_accessible_only_to_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with open_app(settings_in(folder)) as app:
        store = app.services.swr.regions[REGION].store
        sample = image(os.urandom(17 * 1024 * 1024))
        await push(store, APP, sample, Tag("v1"))
        await push(store, APP, artifact(subject=sample.manifest))
        await store.uploads.start(APP)  # type: ignore[attr-defined]
        assert open_to_others(folder) == {}
    assert open_to_others(folder) == {}


@pytest.mark.usefixtures("generous_umask")
async def test_permissions_left_by_an_older_version_are_restricted_at_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    settings = settings_in(folder)
    async with open_app(settings) as app:
        await push(app.services.swr.regions[REGION].store, APP, image(), Tag("v1"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)

    async with open_accounts(settings):
        pass

    for name in ("", "registries", f"registries/{REGION}"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o700, name
    for path in (folder / "secret.key", *folder.glob("tagferry.db*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_permissions_of_a_shared_directory_are_not_changed(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o1777)  # noqa: S103, PTH101
    async with open_accounts(settings_in(tmp_path)):
        assert open_to_others(tmp_path) == {".": "1777"}


async def test_a_second_process_gets_an_error_that_names_the_first(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    program = f"""
import sys, time
from pathlib import Path
from tagferry.registry.storage.lock import RootLock
RootLock.take(Path({str(root)!r}))
print("taken", flush=True)
time.sleep(600)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"taken\n"
        with pytest.raises(Unavailable, match=re.escape(f'"{root}" is in use by process {process.pid} on ')):
            RootLock.take(root)
    finally:
        process.kill()
        await process.wait()
    after = RootLock.take(root)
    assert after.was_abandoned
    after.release()
    again = RootLock.take(root)
    assert not again.was_abandoned
    again.release()


async def test_a_second_app_on_a_directory_is_refused_despite_another_database(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    other = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'other.db'}"})
    async with open_app(settings):
        with pytest.raises(Unavailable, match="is in use by process"):
            async with open_app(other):
                pass
    async with open_app(other):
        pass


async def test_a_read_only_disk_needs_no_lock(tmp_path: Path) -> None:
    with read_only(tmp_path):
        first, second = RootLock.take(tmp_path), RootLock.take(tmp_path)
    first.release()
    second.release()


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to nothing"])
def test_an_irregular_lock_file_is_reported_in_one_sentence(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "lock"
    if kind == "directory":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to("nowhere/lock")
    with pytest.raises(Unavailable, match="cannot lock the registry directory"):
        RootLock.take(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_the_lock_file_of_another_user_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """E.g. of a process that ran as root."""

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable, match="have to belong to the user that runs tagferry"):
        RootLock.take(tmp_path)


def test_a_full_disk_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    RootLock.take(tmp_path).release()
