"""Protect the data directory from other local users."""

import os
import stat
from pathlib import Path

import structlog

from tagferry.app.startup.secrets import key_file
from tagferry.errors import Invalid
from tagferry.settings import Settings

_OTHERS = 0o077

log = structlog.get_logger(__name__)


def protect(settings: Settings) -> None:
    """Create the data directory, and make it and its content accessible to its owner only.

    Existing paths that belong to this user lose the permissions of others. Paths below a registry's directory are not
    checked, since other users cannot reach them.

    Raises:
        Invalid: every local user may write to a path that belongs to another user.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise Invalid("data_dir", "must be a directory", str(folder)) from None
    registries = folder / "registries"
    for path in (
        folder,
        registries,
        *(registries / name for name, region in settings.regions.items() if region.is_embedded),
        key_file(settings),
        *sorted(folder.glob("tagferry.db*")),
    ):
        _tighten(path)


def _tighten(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not found.st_mode & _OTHERS:
        return
    if found.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode):
        # A directory such as /tmp is shared on purpose; its content is checked path by path.
        log.warning("data_dir is shared by all local users; use a directory of its own", path=str(path))
        return
    try:
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError as error:
        if found.st_mode & stat.S_IWOTH:
            rule = f'must not contain world-writable files: "{path}" belongs to user {found.st_uid}'
            raise Invalid("data_dir", f"{rule}; change its owner to {os.geteuid()}, or its mode") from None
        log.warning(
            "other local users can read this path; its owner must change the mode",
            path=str(path),
            mode=f"{stat.S_IMODE(found.st_mode):o}",
            error=error.strerror,
        )
    else:
        log.info(
            "removed the permissions of other local users", path=str(path), mode=f"{stat.S_IMODE(found.st_mode):o}"
        )
