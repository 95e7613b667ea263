"""Check that directories can be written, by writing to them."""

import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tagferry.app.regions import registry_root
from tagferry.app.startup.problem import Problem
from tagferry.app.startup.secrets import key_file
from tagferry.db.url import parse_url
from tagferry.errors import Invalid
from tagferry.file_faults import file_fault, may, user_name
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.registry.storage.threads import DISK_FULL
from tagferry.settings import Settings

_PROBE = bytes(4096)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class _Folder:
    """A directory that has to be written.

    Attributes:
        subject: the subject of its problems.
        label: begins their sentences, before the path.
    """

    subject: str
    label: str
    path: Path

    def problem(self, fault: str, remedy: str) -> Problem:
        return Problem(self.subject, f'{self.label} "{self.path}" {fault}', remedy)


def check_reserves(settings: Settings) -> list[Problem]:
    """Return a warning for each embedded registry whose disk has only its reserve left, so that pushes are refused."""
    return [
        Problem(
            f"region {name}",
            f'region {name}: the disk of "{root}" has only its reserve left, so pushes and syncs to the region wait',
            "free some space, enlarge the disk, or lower limits.disk_reserve_bytes",
            "warning",
        )
        for name, region in settings.regions.items()
        if region.is_embedded and (root := registry_root(settings, name)).is_dir()
        if FreeSpace(root, settings.limits.disk_reserve_bytes).write_error() == DISK_FULL
    ]


def check_folders(settings: Settings) -> list[Problem]:
    """Check `data_dir` and the directories of embedded registries. Nothing is left in them.

    A full or read-only disk of a registry is a warning, since it still serves pulls.
    """
    problem, is_about_disk = _check(_Folder("data_dir", "data_dir", settings.data_dir))
    if problem is not None and (_is_needed(settings) or not is_about_disk):
        # The other directories are in this one, and have the same problem.
        return [problem]
    problems = list(_check_database(settings))
    for name, region in settings.regions.items():
        if not region.is_embedded:
            continue
        folder = _Folder(f"region {name}", f"region {name}: the directory", registry_root(settings, name))
        problem, is_about_disk = _check(folder)
        if problem is not None:
            problems.append(replace(problem, severity="warning") if is_about_disk else problem)
    return problems


def _check_database(settings: Settings) -> Iterator[Problem]:
    """Check the directory of an SQLite file that `database_url` names."""
    try:
        url = parse_url(settings.database_url) if settings.database_url else None
    except Invalid:
        # Opening the database explains what is wrong with it.
        return
    if url is not None and url.get_backend_name() == "sqlite" and url.database:
        folder = _Folder("database", "database_url: the directory", Path(url.database).absolute().parent)
        problem, _ = _check(folder)
        if problem is not None:
            yield problem


def _is_needed(settings: Settings) -> bool:
    """Return whether a process has to write to `data_dir` itself, for the database or the key file."""
    return not settings.database_url or (settings.secret_key is None and not key_file(settings).exists())


def _check(folder: _Folder) -> tuple[Problem | None, bool]:
    """Return why files cannot be created in a directory, and whether only its disk is full or read-only."""
    path = folder.path
    if not os.path.lexists(path):
        return _check_parent(folder, next(parent for parent in path.absolute().parents if os.path.lexists(parent)))
    if not path.is_dir():
        fault = "is not a directory" if path.exists() else "is a symbolic link to a directory that does not exist"
        return folder.problem(fault, "name a directory, or move what is in its place"), False
    try:
        # The file has no name, or only for a moment.
        with tempfile.TemporaryFile(dir=path, buffering=0) as probe:
            probe.write(_PROBE)
    except PermissionError as error:
        owner = user_name(path.stat().st_uid)
        fault = f"{file_fault(error, action='written')}, because it belongs to {owner}"
        return folder.problem(fault, f"run tagferry as {owner}, or change the owner with: chown -R"), False
    except OSError as error:
        remedy = "free some space" if error.errno in _FULL else "check the disk, or how it is mounted"
        return folder.problem(file_fault(error, action="written"), remedy), error.errno in (*_FULL, errno.EROFS)
    return None, False


def _check_parent(folder: _Folder, parent: Path) -> tuple[Problem | None, bool]:
    """Check that a directory can be created, whose nearest parent that exists this is."""
    if not parent.is_dir():
        return folder.problem(
            f'cannot be created, since "{parent}" is not a directory', "name another directory"
        ), False
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        fault = f'cannot be created, since "{parent}" is on a read-only disk'
        return folder.problem(fault, "check the disk, or how it is mounted"), False
    if not may(parent, os.W_OK | os.X_OK):
        owner = user_name(parent.stat().st_uid)
        fault = f'cannot be created by user {user_name()}, since "{parent}" belongs to {owner}'
        return folder.problem(fault, "create it as root, and give it to the user who runs tagferry"), False
    return None, False
